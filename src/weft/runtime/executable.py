"""Plans that run natively."""

from __future__ import annotations

from collections.abc import Mapping
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
