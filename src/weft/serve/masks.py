"""Masks of the tokens that constrained answers may go on with, written beside the step that needs them.

Tokens that were drawn go to a thread of its own, which moves the matcher on and writes the mask for the
next one, without the GIL. Meanwhile the engine's thread prepares and runs the next step; its threads wait at
the gate before they read masks, when all else is done. One thread is enough: a mask takes some 40 us, a
step milliseconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Sequence as List
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np

from weft.serve.constraint import constraint_error
from weft.serve.matchers import Matcher
from weft.types import Array

_ALL = np.uint32(0xFFFFFFFF)


class MaskTable:
    """A mask for each seat, then one for each output of a step: bit id % 32 of word id / 32 allows token id.

    gate: with `begin()` and `end()`, as the native core has it; closed while masks are being written.
    num_outputs: most outputs of a step with drafts, whose rows have masks besides their seat's.
    words u32[(seats + outputs) * row_words, 1].
    The engine's thread calls; a thread of the table's own writes.
    """

    def __init__(self, gate: Any, num_seats: int, vocabulary_size: int, num_outputs: int = 0) -> None:
        self.row_words = (vocabulary_size + 31) // 32
        self._num_seats = num_seats
        self._table = np.zeros((num_seats + num_outputs, self.row_words), np.uint32)
        self.words: Array = self._table.reshape(-1, 1)
        self._gate = gate
        self._writer: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None

    def begin_of_seat(self, seat: int) -> int:
        """Where the mask of a seat begins in `words`."""
        return seat * self.row_words

    def begin_of_output(self, output: int) -> int:
        """Where the mask of a step's output begins in `words`, where it is of a draft."""
        return (self._num_seats + output) * self.row_words

    def write(self, matchers: List[Matcher], seats: List[int], tokens: List[List[int]] | None = None) -> None:
        """Begins the masks of `matchers` on `seats`, after the new `tokens` of their answers, if any."""
        self._begin(partial(self._write, matchers, seats, tokens))

    def write_drafts(self, matchers: List[Matcher], drafts: List[List[int]], outputs: List[int]) -> None:
        """Begins the masks after each token of `drafts`, whose requests' own rows are these `outputs`.

        Each matcher's `num_followed` says for how many tokens there is one.
        """
        self._begin(partial(self._write_drafts, matchers, drafts, outputs))

    def settle(self) -> None:
        """Waits for the masks that have begun: matchers stand where their answers do then."""
        if self._last is not None:
            wait([self._last])
            self._last = None

    def close(self) -> None:
        """Ends the thread, after what has begun."""
        if self._writer is not None:
            self._writer.shutdown()

    def _begin(self, work: Callable[[], None]) -> None:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="weft-masks")
        self._gate.begin()
        try:
            self._last = self._writer.submit(work)
        except BaseException:
            self._gate.end()
            raise

    def _write(self, matchers: List[Matcher], seats: List[int], tokens: List[List[int]] | None) -> None:
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

    def _write_drafts(self, matchers: List[Matcher], drafts: List[List[int]], outputs: List[int]) -> None:
        try:
            for matcher, draft, output in zip(matchers, drafts, outputs, strict=True):
                with contextlib.suppress(
                    Exception
                ):  # of the library: the answer meets it where it comes to it
                    self._follow(matcher, draft, self._num_seats + output + 1)
        finally:
            self._gate.end()

    def _follow(self, matcher: Matcher, draft: List[int], first_row: int) -> None:
        """Masks after each token of `draft`, from `first_row` on; all are allowed where there is none."""
        matcher.num_followed = 0
        try:
            # A copy: what goes wrong on a way that the answer may not take is no fault of the answer.
            handle = matcher.handle.deep_copy()
            for row, token in enumerate(draft, first_row):
                if handle.consume_token(token):
                    self._fill_row(handle, row)
                if handle.is_error():
                    break
                matcher.num_followed += 1
        finally:
            self._table[first_row + matcher.num_followed : first_row + len(draft)] = _ALL

    def _advance(self, matchers: List[Matcher], tokens: List[List[int]]) -> None:
        for matcher, drawn in zip(matchers, tokens, strict=True):
            matcher.handle.consume_tokens(drawn)

    def _fill(self, matchers: List[Matcher], seats: List[int]) -> None:
        for matcher, seat in zip(matchers, seats, strict=True):
            self._fill_row(matcher.handle, seat)

    def _fill_row(self, handle: Any, row: int) -> None:
        row_bytes = self._table.strides[0]
        handle.unsafe_compute_mask_ptr(self._table.ctypes.data + row * row_bytes, row_bytes)
