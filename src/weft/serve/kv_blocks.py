"""Blocks of the paged KV cache: who holds which, what they contain, and how many are left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from weft.serve.begun_blocks import BegunBlocks
from weft.types import BLOCK_TOKENS, Array

_KEY_BYTES = 20


def blocks_for(tokens: int, block_tokens: int = BLOCK_TOKENS) -> int:
    """Blocks that hold `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


def extend_keys(keys: list[bytes], text: Array, block_tokens: int = BLOCK_TOKENS, adapter: int = 0) -> None:
    """Appends to `keys`, those of the first blocks of `text` i32[n], the keys of its other full blocks.

    A block's key stands for the adapter and all tokens from the begin of the text to the block's end: equal
    keys, equal prefixes, hence equal bits in the cache.
    """
    for block in range(len(keys), len(text) // block_tokens):
        content = text[block * block_tokens : (block + 1) * block_tokens].tobytes()
        before = keys[-1] if keys else b"%d " % adapter
        keys.append(hashlib.blake2b(before + content, digest_size=_KEY_BYTES).digest())


class BlockAllocator:
    """Hands out the blocks of a cache, each with a count of its holders. For one thread at a time.

    A block whose content has a key is found by it, and one of which a text may take a part through `begun`,
    even when nobody holds it any more, until its memory is needed: those released first are handed out first,
    after those that nobody could find. Of these the last given back come first, so that memory that was never
    touched stays so.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._idle: dict[int, None] = {}  # without a holder, but found; in the order of their release
        self._holders = [0] * num_blocks
        self._keys: list[bytes | None] = [None] * num_blocks
        self._blocks: dict[bytes, int] = {}  # by their keys
        self.begun = BegunBlocks()

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free) + len(self._idle)

    @property
    def num_used(self) -> int:
        """Blocks that somebody holds."""
        return self.num_blocks - self.num_free

    @property
    def num_idle(self) -> int:
        """Blocks that nobody holds, kept for a text that begins with the same tokens."""
        return len(self._idle)

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one holder each; the caller has seen that so many are free."""
        assert 0 <= count <= self.num_free, f"{count} blocks of {self.num_free} free ones"
        taken = [self._free.pop() if self._free else self._drop_oldest() for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Adds a holder to each of `blocks`, which are held already or have a key."""
        for block in blocks:
            if self._holders[block] == 0:
                assert block in self._idle, f"block {block} is free"
                del self._idle[block]
            self._holders[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Takes one holder from each of `blocks`; those without one are free again."""
        for block in blocks:
            assert self._holders[block] > 0, f"block {block} is free already"
            self._holders[block] -= 1
            if self._holders[block] == 0:
                if self._keys[block] is None and block not in self.begun:
                    self._free.append(block)
                else:
                    self._idle[block] = None

    def set_key(self, block: int, key: bytes) -> None:
        """Says what the held `block` contains; where another block has that key, that one keeps it."""
        assert self._holders[block] > 0, f"block {block} is free"
        if self._keys[block] is None and key not in self._blocks:
            self._keys[block] = key
            self._blocks[key] = block

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks with the first of `keys`, as far as there are any without a gap."""
        found = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def forget(self) -> None:
        """Frees all blocks that are kept for texts to come."""
        while self._idle:
            self._free.append(self._drop_oldest())

    def is_held(self, block: int) -> bool:
        """Whether somebody holds `block`."""
        return self._holders[block] > 0

    def _drop_oldest(self) -> int:
        block = next(iter(self._idle))
        del self._idle[block]
        self.begun.drop(block)
        if (key := self._keys[block]) is not None:
            del self._blocks[key]
            self._keys[block] = None
        return block
