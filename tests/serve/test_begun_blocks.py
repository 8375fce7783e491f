"""Blocks that texts take a part of."""

from __future__ import annotations

import numpy as np

from weft.serve.begun_blocks import BegunBlocks
from weft.serve.kv_blocks import BlockAllocator
from weft.types import Array


def tokens(*numbers: int) -> Array:
    return np.array(numbers, np.int32)


def test_who_has_most_is_found() -> None:
    begun = BegunBlocks()
    begun.note(3, b"a", tokens(1, 2, 3))
    begun.note(4, b"a", tokens(1, 2, 9, 9))
    begun.note(5, b"b", tokens(1, 2, 3, 4))
    assert begun.find(b"a", tokens(1, 2, 3, 4)) == (3, 3)
    assert begun.find(b"a", tokens(1, 2, 9)) == (4, 3)
    assert begun.find(b"a", tokens(7, 1))[1] == begun.find(b"c", tokens(1))[1] == 0
    assert begun.find(b"a", tokens())[1] == 0


def test_each_content_is_kept_once_and_grows() -> None:
    begun = BegunBlocks()
    begun.note(3, b"a", tokens(1, 2))
    begun.note(4, b"a", tokens(1))
    assert 4 not in begun
    begun.note(3, b"a", tokens(1, 2, 3))
    assert begun.find(b"a", tokens(1, 2, 3, 4)) == (3, 3)
    begun.note(4, b"a", tokens(1, 2, 3, 4))
    begun.note(3, b"a", tokens(1, 2, 3))
    assert 3 not in begun and begun.find(b"a", tokens(1, 2, 3)) == (4, 3)
    begun.drop(4)
    begun.drop(4)
    assert begun.find(b"a", tokens(1)) == (-1, 0)
    assert not begun._contents and not begun._keys_before


def test_a_block_that_is_noted_stays_until_its_memory_is_needed() -> None:
    allocator = BlockAllocator(3)
    first, second = allocator.allocate(2)
    allocator.begun.note(first, b"a", tokens(1, 2))
    allocator.release([first, second])
    assert (allocator.num_free, allocator.num_idle) == (3, 1)
    assert first not in allocator.allocate(2)
    assert allocator.begun.find(b"a", tokens(1, 2)) == (first, 2)
    assert allocator.allocate(1) == [first]
    assert allocator.begun.find(b"a", tokens(1, 2))[1] == 0
