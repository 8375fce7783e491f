"""Tokens of an answer to its text, ended before a stop string wherever the tokens' borders fall."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Decoder(Protocol):
    """Turns tokens into text as they come; `weft.io.text.tokenizer.StreamDecoder` is one."""

    def push(self, number: int) -> str:
        """Text that the token completes."""

    def flush(self) -> str:
        """What is left of a character that was never completed."""


class Detokenizer:
    """The text of one answer, in pieces that never hold part of a stop string. For one thread at a time."""

    def __init__(self, decoder: Decoder, stops: tuple[str, ...] = ()) -> None:
        self._decoder = decoder
        self._stops = stops
        self._held = ""
        self.stopped_by: str | None = None
        """The stop string that ended the text, once one has."""

    def push(self, token: int) -> str:
        """Text that is sure to belong to the answer after `token`; empty once a stop string came."""
        return self._take(self._decoder.push(token))

    def push_all(self, tokens: Iterable[int]) -> str:
        """`push` of each token, joined."""
        return "".join([self.push(token) for token in tokens])

    def flush(self) -> str:
        """The text held back, at the end of the answer."""
        text = self._take(self._decoder.flush())
        rest, self._held = self._held, ""
        return text + rest

    def _take(self, text: str) -> str:
        if not self._stops:
            return text
        if self.stopped_by is not None:
            return ""
        held = self._held + text
        begin = self._find_stop(held)
        if begin is not None:
            self._held = ""
            return held[:begin]
        keep = _longest_begun(held, self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def _find_stop(self, text: str) -> int | None:
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if not found:
            return None
        begin, self.stopped_by = min(found)
        return begin


def _longest_begun(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of `text` that some stop string begins with."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest
