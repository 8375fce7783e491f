"""The allocator of cache blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weft.serve.kv_blocks import BlockAllocator, blocks_for


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
