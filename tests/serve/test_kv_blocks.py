"""The allocator of cache blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.serve.kv_blocks import BlockAllocator, blocks_for, extend_keys


def test_blocks_for() -> None:
    assert [blocks_for(tokens) for tokens in (0, 1, 32, 33, 64, 65)] == [0, 1, 1, 2, 2, 3]


def test_shared_blocks_are_freed_by_their_last_holder() -> None:
    allocator = BlockAllocator(4)
    blocks = allocator.allocate(3)
    allocator.share(blocks[:1])
    allocator.release(blocks)
    assert (allocator.num_free, allocator.num_used) == (3, 1)
    allocator.release(blocks[:1])
    assert allocator.num_free == 4


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), max_size=60))
def test_no_block_is_given_twice(changes: list[int]) -> None:
    allocator = BlockAllocator(12)
    held: list[int] = []
    for change in changes:
        if change > 0:
            held += allocator.allocate(min(change, allocator.num_free))
        else:
            allocator.release(held[:-change])
            del held[:-change]
        assert len(set(held)) == len(held) == allocator.num_used
        assert allocator.num_used + allocator.num_free == 12


def test_keys_stand_for_all_that_came_before() -> None:
    text = np.arange(100, dtype=np.int32)
    keys: list[bytes] = []
    extend_keys(keys, text[:40])
    assert len(keys) == 1
    extend_keys(keys, text)
    assert len(set(keys)) == 3
    other = text.copy()
    other[0] = 7
    others: list[bytes] = []
    extend_keys(others, other)
    assert not set(others) & set(keys), "blocks of equal tokens after other ones"
    again: list[bytes] = []
    extend_keys(again, text[:96])
    assert again == keys


def test_a_released_block_is_found_until_its_memory_is_needed() -> None:
    allocator = BlockAllocator(3)
    blocks = allocator.allocate(3)
    for block, key in zip(blocks, (b"a", b"b", b"c"), strict=True):
        allocator.set_key(block, key)
    allocator.release(reversed(blocks))
    assert (allocator.num_free, allocator.num_idle) == (3, 3)
    assert allocator.find([b"a", b"b", b"c"]) == blocks and allocator.find([b"x", b"a"]) == []
    allocator.share(blocks[:1])
    assert allocator.allocate(1) == blocks[2:], "what was released first"
    assert allocator.find([b"a", b"b", b"c"]) == blocks[:2]
    allocator.release(blocks[:1])
    assert allocator.allocate(2) == [blocks[1], blocks[0]]
    assert allocator.find([b"a"]) == [] and allocator.num_free == 0


def test_of_two_blocks_with_one_key_the_first_keeps_it() -> None:
    allocator = BlockAllocator(2)
    first, second = allocator.allocate(2)
    allocator.set_key(first, b"a")
    allocator.set_key(second, b"a")
    allocator.release([second])
    assert allocator.find([b"a"]) == [first] and allocator.num_idle == 0


def test_what_is_forgotten_is_not_found() -> None:
    allocator = BlockAllocator(4)
    held, idle = allocator.allocate(1), allocator.allocate(2)
    for block in [*held, *idle]:
        allocator.set_key(block, bytes([block]))
    allocator.release(idle)
    assert allocator.num_idle == 2
    allocator.forget()
    assert (allocator.num_idle, allocator.num_free) == (0, 3)
    assert allocator.find([bytes([held[0]])]) == held and not allocator.find([bytes([idle[0]])])
