"""Threads: made once, used by loops of Python and by plans."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from weft.machine import MachineLimits
from weft.runtime.native import native

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pool:
    """Threads, made once, in teams of nearly equal size; a team runs a plan or a loop together.

    The caller is one of the threads. Idle threads spin briefly, then sleep: an idle pool uses no CPU. Any
    thread may use a pool. Close it, or leave its `with` block, when it is no longer needed. Raises
    ConfigError for counts out of range, ThreadError when a thread cannot be started.

    >>> with Pool(threads=4, teams=2) as pool:
    ...     squares = pool.map(lambda x: x * x, range(8))
    """

    def __init__(self, threads: int = 1, teams: int = 1, spin_us: int | None = None) -> None:
        self._native = native().Pool(threads, teams, spin_us)
        _pools.add(self)

    @property
    def handle(self) -> Any:
        """The native pool."""
        return self._native

    @property
    def num_threads(self) -> int:
        """Threads of all teams together, the caller's included."""
        return int(self._native.num_threads)

    @property
    def num_teams(self) -> int:
        """Teams that the threads are split into."""
        return int(self._native.num_teams)

    @property
    def is_closed(self) -> bool:
        """Whether the pool was closed."""
        return bool(self._native.is_closed)

    def parallel_for(self, begin: int, end: int, grain: int, function: Callable[[int, int], object]) -> None:
        """`for first in range(begin, end, grain): function(first, min(first + grain, end))`, in any order.

        The first exception of a call is raised here; calls not yet begun are then skipped. Raises
        ConfigError for a grain below 1, ThreadError when the pool is closed, was made before a fork, or
        when called from within.
        """
        self._native.parallel_for(begin, end, grain, function)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Equals `[function(item) for item in items]`, in any order of calls; errors as in `parallel_for`."""
        results: list[Result] = self._native.map(function, items)
        return results

    def submit(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Future[Result]:
        """Has an idle worker call `function(*args, **kwargs)` once; the future gets its result or exception.

        A call that waits for a later one may wait for ever. Raises ThreadError when the pool is closed.
        """
        future: Future[Result] = self._native.submit(function, *args, **kwargs)
        return future

    def statistics(self) -> list[dict[str, int]]:
        """One dictionary a thread since the start or the last resize: team, thread, busy_ns, wait_ns,
        num_tiles, num_steals, num_parks, num_tasks.
        """
        rows: list[dict[str, int]] = self._native.statistics()
        return rows

    def resize(self, threads: int) -> None:
        """Waits for what has begun, then goes on with `threads` threads in as many teams as before."""
        self._native.resize(threads)

    def close(self) -> None:
        """Waits for all runs and submitted calls, then ends the threads. A second call does nothing."""
        self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def measure_limits(pool: Pool, team: int = 0) -> MachineLimits:
    """Measures on a team of `pool`, in a second or two. Raises OutOfMemoryError, ThreadError."""
    return MachineLimits(**native().measure_limits(pool.handle, team))


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    """Lets submitted calls end while there still is an interpreter to run them."""
    for pool in list(_pools):
        pool.close()
