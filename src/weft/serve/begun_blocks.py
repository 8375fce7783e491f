"""Blocks of which a text can use a part: their first tokens follow the same text as its own do."""

from __future__ import annotations

import itertools

import numpy as np

from weft.types import Array

_MOST_COMPARED = 8  # blocks after one text, the latest first


class BegunBlocks:
    """What blocks contain after texts that fill whole blocks, named by the key of these.

    A text that goes on as a block does for some tokens takes a copy of it instead of computing these: the end
    of the last turn of a chat, the end of a prompt with several answers. What follows no whole block is
    not kept: of all texts ever seen a part of the first block would be compared.
    """

    def __init__(self) -> None:
        self._contents: dict[bytes, dict[int, Array]] = {}  # by the key before, in the order of their coming
        self._keys_before: dict[int, bytes] = {}

    def __contains__(self, block: int) -> bool:
        return block in self._keys_before

    def note(self, block: int, key_before: bytes, tokens: Array) -> None:
        """Says that `block` holds `tokens` after the text of `key_before`, unless another has them too."""
        contents = self._contents.setdefault(key_before, {})
        contents.pop(block, None)
        for content in _latest(contents):
            if _num_equal(contents[content], tokens) == len(tokens):
                self.drop(block)
                return
        contents[block] = tokens.copy()
        self._keys_before[block] = key_before

    def find(self, key_before: bytes, tokens: Array) -> tuple[int, int]:
        """The block that has most of `tokens` after the text of `key_before`, and how many: 0 for none."""
        best, most = -1, 0
        contents = self._contents.get(key_before, {})
        for block in _latest(contents):
            count = _num_equal(contents[block], tokens)
            if count > most:
                best, most = block, count
        return best, most

    def drop(self, block: int) -> None:
        """Forgets `block`; nothing where it is not kept."""
        key_before = self._keys_before.pop(block, None)
        if key_before is not None:
            self._contents[key_before].pop(block, None)
            if not self._contents[key_before]:
                del self._contents[key_before]


def _latest(contents: dict[int, Array]) -> list[int]:
    return list(itertools.islice(reversed(contents), _MOST_COMPARED))


def _num_equal(first: Array, second: Array) -> int:
    """Tokens with which both begin."""
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if len(differing) else length
