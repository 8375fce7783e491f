"""Blocks of the paged KV cache: who holds which, and how many are left."""

from __future__ import annotations

from collections.abc import Iterable

from weft.types import BLOCK_TOKENS


def blocks_for(tokens: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


class BlockAllocator:
    """Hands out the blocks of a cache, each with a count of its holders. For one thread at a time.

    Blocks last given back are handed out first, so that memory that was never touched stays so.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._holders = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks that somebody holds."""
        return self.num_blocks - len(self._free)

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one holder each; the caller has seen that so many are free."""
        assert 0 <= count <= len(self._free), f"{count} blocks of {len(self._free)} free ones"
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Adds a holder to each of `blocks`, which are held already."""
        for block in blocks:
            assert self._holders[block] > 0, f"block {block} is free"
            self._holders[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Takes one holder from each of `blocks`; those without one are free again."""
        for block in blocks:
            assert self._holders[block] > 0, f"block {block} is free already"
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free.append(block)
