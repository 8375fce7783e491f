"""The batch of each step: a function of the step's number and the seed, prepared ahead by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, Self

from weft.train.data.pack import PackedRows
from weft.train.data.slices import AnySlice, Slice, make_slices
from weft.train.data.split import permutation
from weft.types import Array


class Batches:
    """Batches of `rows_per_step` packed rows; every epoch takes each row once, in an order of its own.

    Step s takes the rows s · rows_per_step and following of the epochs laid end to end, so its number is all
    that resuming needs. For one thread.
    """

    def __init__(self, rows: PackedRows, rows_per_step: int, rows_per_slice: int, seed: int) -> None:
        self.rows = rows
        self.rows_per_step = rows_per_step
        self.rows_per_slice = rows_per_slice
        self.seed = seed
        self._orders: dict[int, Array] = {}

    def __call__(self, step: int) -> list[Slice]:
        """The slices of step number `step`, counted from 0."""
        first = step * self.rows_per_step
        chosen = [self._row(index) for index in range(first, first + self.rows_per_step)]
        return make_slices(self.rows, chosen, self.rows_per_slice, first * self.rows.length)

    def epoch(self, step: int) -> float:
        """Epochs that are done when `step` steps are."""
        return step * self.rows_per_step / len(self.rows)

    def _row(self, index: int) -> int:
        epoch, place = divmod(index, len(self.rows))
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e >= epoch - 1}
            self._orders[epoch] = permutation(len(self.rows), self.seed, epoch)
        return int(self._orders[epoch][place])


class BatchSource(Protocol):
    """Where a trainer gets its batches from."""

    def __call__(self, step: int) -> Sequence[AnySlice]:
        """The slices of step number `step`, counted from 0."""

    def epoch(self, step: int) -> float:
        """Epochs that are done when `step` steps are."""


class Prefetcher:
    """Calls `make(step)` for one step after another on a thread of its own, a few steps ahead.

    Close it, or leave its `with` block, to end the thread.
    """

    def __init__(self, make: Callable[[int], Sequence[AnySlice]], first_step: int, depth: int = 2) -> None:
        self._make = make
        self._ready: queue.Queue[Sequence[AnySlice] | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(first_step,), name="weft-data", daemon=True)
        self._thread.start()

    def next(self) -> Sequence[AnySlice]:
        """The slices of the next step. Raises what making them raised."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """Ends the thread. A second call does nothing."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self, step: int) -> None:
        while not self._closed.is_set():
            try:
                item: Sequence[AnySlice] | BaseException = self._make(step)
            except BaseException as error:
                item = error
            self._offer(item)
            if isinstance(item, BaseException):
                return
            step += 1

    def _offer(self, item: Sequence[AnySlice] | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
