"""Plans that run natively."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weft.plan import Plan
from weft.runtime.kv_cache import KvCache
from weft.runtime.lowering import lower
from weft.runtime.native import native
from weft.runtime.pool import Pool
from weft.runtime.weights import Bound
from weft.types import Array


class Executable:
    """A plan bound to weights and caches, run by a team of `pool`. Runs take turns; any thread may run it."""

    def __init__(self, plan: Plan, handle: Any, pool: Pool) -> None:
        self.plan = plan
        self.handle = handle
        self.pool = pool
        self.gate: Any = None  # native: masks of tokens are read after waiting at it

    def run(self, inputs: Mapping[str, Array], team: int = 0, trace: Any = None) -> dict[str, Array]:
        """Outputs by name for C-contiguous arrays [n, columns] of inputs by name; one native call without
        the GIL.

        trace: a `Trace` that collects what each thread did. Raises ConfigError for an input that is missing
        or does not fit (then nothing has run), ThreadError.
        """
        outputs: dict[str, Array] = self.handle.run(self.pool.handle, dict(inputs), team, trace, self.gate)
        return outputs

    def run_chain(
        self,
        inputs: Mapping[str, Array],
        num_runs: int,
        stacked: Sequence[str],
        fed: str,
        ends: Iterable[int] = (),
    ) -> dict[str, Array]:
        """Up to `num_runs` runs in one native call, each fed with what the one before gave; as `run` besides.

        The output `fed` i32[n, 1] of a run is the input of that name of the next; one of `ends` in it makes a
        run the last. Inputs named in `stacked`, and all outputs, hold the rows of the first run, then those
        of the second, and so on.
        """
        pool, native_run = self.pool.handle, self.handle.run_chain
        outputs: dict[str, Array] = native_run(
            pool, dict(inputs), num_runs, stacked, fed, list(ends), gate=self.gate
        )
        return outputs

    @property
    def memory_bytes(self) -> int:
        """Bytes of activations and scratch."""
        return int(self.handle.memory_bytes)


def compile(
    plan: Plan, pool: Pool, weights: Mapping[str, Bound], caches: Mapping[str, KvCache] | None = None
) -> Executable:
    """`plan` ready to run on `pool`, with its parameters from `weights` and its states from `caches`, by
    name.

    Raises PlanError when one is missing or of another type, OutOfMemoryError when activations cannot fit.
    """
    return Executable(plan, lower(plan, weights, caches or {}), pool)


def new_trace(capacity: int = 1 << 20) -> Any:
    """A collector of spans for `Executable.run`, for at most `capacity` spans a thread.

    Its `spans()` gives a structured array: thread, node, phase, tiles, begin_ns, end_ns.
    """
    return native().Trace(capacity)
