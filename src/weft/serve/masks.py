"""Masks of the tokens that constrained answers may go on with, written beside the step that needs them.

A token that was drawn goes to a thread of its own, which moves the matcher on and writes the mask for the
next one, without the GIL. Meanwhile the engine's thread prepares and runs the next step; its threads wait at
the gate before they read masks, when all else is done. One thread is enough: a mask takes some 40 us, a
step milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from weft.serve.constraint import constraint_error
from weft.serve.matchers import Matcher
from weft.types import Array

_ALL = np.uint32(0xFFFFFFFF)


class MaskTable:
    """A mask for each seat: bit id % 32 of word id / 32 allows token id.

    gate: with `begin()` and `end()`, as the native core has it; closed while masks are being written.
    words u32[seats * row_words, 1].
    The engine's thread calls; a thread of the table's own writes.
    """

    def __init__(self, gate: Any, num_seats: int, vocabulary_size: int) -> None:
        self.row_words = (vocabulary_size + 31) // 32
        self._table = np.zeros((num_seats, self.row_words), np.uint32)
        self.words: Array = self._table.reshape(-1, 1)
        self._gate = gate
        self._writer: ThreadPoolExecutor | None = None

    def write(self, matchers: List[Matcher], seats: List[int], tokens: List[int] | None = None) -> None:
        """Begins the masks of `matchers` on `seats`, after the new `tokens` of their answers, if any."""
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="weft-masks")
        self._gate.begin()
        try:
            self._writer.submit(self._write, matchers, seats, tokens)
        except BaseException:
            self._gate.end()
            raise

    def close(self) -> None:
        """Ends the thread, after what has begun."""
        if self._writer is not None:
            self._writer.shutdown()

    def _write(self, matchers: List[Matcher], seats: List[int], tokens: List[int] | None) -> None:
        try:
            if tokens is not None:
                self._advance(matchers, tokens)
            self._fill(matchers, seats)
            failed = [seat for matcher, seat in zip(matchers, seats, strict=True) if matcher.look_for_error()]
            self._table[failed] = _ALL  # the step goes on; what these draw is dropped
        except BaseException as error:  # a fault of weft or llguidance: these requests alone end
            for matcher in matchers:
                matcher.error = matcher.error or constraint_error(matcher.constraint, repr(error))
            self._table[seats] = _ALL
        finally:
            self._gate.end()

    def _advance(self, matchers: List[Matcher], tokens: List[int]) -> None:
        for matcher, token in zip(matchers, tokens, strict=True):
            matcher.handle.consume_token(token)

    def _fill(self, matchers: List[Matcher], seats: List[int]) -> None:
        row_bytes = self._table.strides[0]
        for matcher, seat in zip(matchers, seats, strict=True):
            address = self._table.ctypes.data + seat * row_bytes
            matcher.handle.unsafe_compute_mask_ptr(address, row_bytes)
