"""The native core for the rest of weft: threads, packed weights, caches, and compiled plans.

The only module that imports `weft._native`, at the first use, so that `import weft` stays quick.
"""

from __future__ import annotations

import atexit
import importlib
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from weft.errors import ConfigError, PlanError, UnsupportedError
from weft.machine import MachineLimits
from weft.plan import Node, Parameter, Plan, State, Value
from weft.types import Array, CacheType, TensorType, WeightType

Item = TypeVar("Item")
Result = TypeVar("Result")


def native() -> Any:
    """The extension module. Raises UnsupportedError when this installation lacks it."""
    try:
        return importlib.import_module("weft._native")
    except ImportError as error:
        raise UnsupportedError(
            f"Expected weft's native core, got {error}; install weft from a wheel, or build it with `make`."
        ) from error


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


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    """Lets submitted calls end while there still is an interpreter to run them."""
    for pool in list(_pools):
        pool.close()


@dataclass(frozen=True)
class WeightPart:
    """One matrix [n, k] of a weight, in a file's encoding: `kind` as in GGUF files ("F32", "BF16", "Q4_K",
    …).

    Row r of it is row `row_order[r]` of `data` where that is given.
    """

    kind: str
    n: int
    k: int
    data: Any
    row_order: Array | None = None

    def __post_init__(self) -> None:
        if max(abs(self.n), abs(self.k)) >= 1 << 63:
            raise ConfigError(f"Expected sizes of 64 bits, got {self.n} and {self.k}; correct them.")


class Weight:
    """A weight packed for products, [n, k]. Immutable; any thread may use it."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.type = _weight_type(handle)

    @classmethod
    def pack(
        cls, pool: Pool, parts: Sequence[WeightPart], interleave: bool = False, target: str | None = None
    ) -> Self:
        """Packs `parts`, joined along their outputs, on the threads of `pool`.

        interleave: two equal parts, gate and up, alternate, for a gated activation. target: requantize to
        "f32", "bf16", "q8", "int8" or "q4"; by default each kind of the file keeps its precision. Raises
        ConfigError for sizes that do not fit or values that are not finite, OutOfMemoryError.
        """
        plain = [(part.kind, part.n, part.k, part.data, part.row_order) for part in parts]
        return cls(native().Weight.pack(pool.handle, plain, interleave, target))

    @classmethod
    def from_packed(cls, header: Mapping[str, Any], data: Any) -> Self:
        """The weight whose `header` and `packed` bytes these were; `data` is not copied and is kept alive."""
        return cls(native().Weight.from_packed(dict(header), data))

    @property
    def header(self) -> dict[str, Any]:
        """What `from_packed` needs besides the bytes: plain values."""
        header: dict[str, Any] = self.handle.header
        return header

    @property
    def packed(self) -> memoryview:
        """The packed bytes, without a copy."""
        return memoryview(self.handle.packed)

    def dequantize(self) -> Array:
        """The weight as float32 [n, k], parts in their order."""
        return np.asarray(self.handle.dequantize())


class Tensor:
    """A float32 array, [n, k] or [size], that plans read and add to where it lies; it is kept alive.

    Runs use it without a lock: plans that add to one must not run at once. Raises ConfigError for an array
    that is not float32, C-contiguous and writable.
    """

    def __init__(self, array: Array) -> None:
        self.handle = native().Tensor(array)
        self.array = array
        self.type = TensorType(array.shape)

    def dequantize(self) -> Array:
        """The array itself."""
        return self.array


Bound = Weight | Tensor | Array
"""What a parameter of a plan is bound to."""


def _weight_type(handle: Any) -> WeightType:
    header = handle.header
    kind = "+".join(dict.fromkeys(header["kinds"]))
    return WeightType(handle.n, handle.k, kind, handle.nbytes, header["interleave"])


class KvCache:
    """Keys and values of earlier tokens in `num_blocks` blocks of `weft.types.BLOCK_TOKENS` tokens.

    The system gives pages when they are first written. Runs use it without a lock: give each sequence
    blocks of its own. Raises ConfigError for sizes below 1, OutOfMemoryError when it cannot fit.
    """

    def __init__(self, type_: CacheType, num_blocks: int) -> None:
        self.type = type_
        self.num_blocks = num_blocks
        sizes = (type_.layers, type_.kv_heads, type_.head_dim, num_blocks)
        self.handle = native().KvCache(*sizes, dtype=str(type_.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks, used or not."""
        return int(self.handle.nbytes)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        return int(self.handle.block_bytes)

    def copy_block(self, source: int, target: int) -> None:
        """Copies all layers of one block to another. Raises ConfigError when either does not exist."""
        self.handle.copy_block(source, target)


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
    return Executable(plan, _Lowering(plan, weights, caches or {}).lower(), pool)


def new_trace(capacity: int = 1 << 20) -> Any:
    """A collector of spans for `Executable.run`, for at most `capacity` spans a thread.

    Its `spans()` gives a structured array: thread, node, phase, tiles, begin_ns, end_ns.
    """
    return native().Trace(capacity)


def measure_limits(pool: Pool, team: int = 0) -> MachineLimits:
    """Measures on a team of `pool`, in a second or two. Raises OutOfMemoryError, ThreadError."""
    return MachineLimits(**native().measure_limits(pool.handle, team))


def available_isas() -> list[str]:
    """Instruction sets whose kernels can run here, the slowest first."""
    return list(native().isa_available())


def selected_isa() -> str:
    """The instruction set in use. Raises ConfigError or UnsupportedError for what WEFT_ISA names."""
    return str(native().isa_selected())


def cache_bytes() -> dict[str, int]:
    """Data caches of the first processor: l1d_bytes, l2_bytes, l3_bytes; 0 where unknown."""
    return dict(native().cache_bytes())


def give_back_freed_memory() -> None:
    """Gives freed pages of the heap back to the system, in some milliseconds."""
    native().give_back_freed_memory()


class _Lowering:
    """A plan in the terms of the native core."""

    def __init__(self, plan: Plan, weights: Mapping[str, Bound], caches: Mapping[str, KvCache]) -> None:
        self.plan = plan
        self.weights = weights
        self.caches = caches
        self.input_index = {value: index for index, value in enumerate(plan.inputs.values())}

    def lower(self) -> Any:
        """The native plan."""
        plan = self.plan
        buffers = [(b.rows, b.columns, str(b.dtype), b.offset_bytes) for b in plan.placement.buffers]
        return native().Plan(
            nodes=[self._node(node) for node in plan.nodes],
            buffers=buffers,
            inputs=[self._input(name, value) for name, value in plan.inputs.items()],
            outputs=[(name, self._reference(value)) for name, value in plan.outputs.items()],
            dims=dict(plan.max_sizes),
            arena_bytes=plan.placement.arena_bytes,
        )

    def _input(self, name: str, value: Value) -> tuple[str, str, int, str]:
        dimension = value.type.rows if value.type.rows in self.plan.max_sizes else ""
        return name, dimension, value.type.columns, str(value.type.dtype)

    def _node(self, node: Node) -> dict[str, Any]:
        if not node.plain_nodes and _reads_interleaved(node):
            raise PlanError(
                f"{node.label or node.op.name}: expected an interleaved weight to be fused with its "
                "activation, got a plain product; build the plan with fuse=True."
            )
        return {
            "op": node.op.name,
            "attrs": node.op.attrs,
            "operands": {name: self._operand(operand) for name, operand in node.operands.items()},
            "outputs": {
                name: self._reference(value)
                for name, value in zip(node.op.outputs, node.outputs, strict=True)
            },
        }

    def _operand(self, operand: Value | Parameter | State) -> tuple[Any, ...]:
        match operand:
            case Value():
                return self._reference(operand)
            case Parameter():
                return self._parameter(operand)
            case State():
                return ("cache", self._cache(operand).handle)

    def _reference(self, value: Value) -> tuple[Any, ...]:
        if value.base in self.input_index:
            if value.is_view:
                raise PlanError(
                    f"Expected whole inputs as operands, got {value!r}; pass the parts as inputs."
                )
            return ("input", self.input_index[value])
        place = self.plan.placement.place(value)
        return ("buffer", place.buffer, place.first_column, value.type.columns)

    def _parameter(self, parameter: Parameter) -> tuple[str, Any]:
        name = parameter.name
        content = self.plan.constants.get(name, self.weights.get(name))
        if isinstance(content, Weight) and content.type == parameter.type:
            return ("weight", content.handle)
        if isinstance(content, Tensor) and content.type == parameter.type:
            return ("tensor", content.handle)
        if isinstance(content, np.ndarray) and content.shape == (getattr(parameter.type, "size", -1),):
            return ("vector", np.ascontiguousarray(content, dtype=np.float32))
        came = getattr(content, "type", getattr(content, "shape", content))
        raise PlanError(
            f"Weight {name!r}: expected {parameter.type}, got {came}; build the plan over these weights."
        )

    def _cache(self, state: State) -> KvCache:
        cache = self.caches.get(state.name)
        if cache is None or cache.type != state.type:
            came = cache.type if cache else "none"
            raise PlanError(
                f"Cache {state.name!r}: expected {state.type}, got {came}; make it for this model."
            )
        return cache


def _reads_interleaved(node: Node) -> bool:
    weight = node.operands.get("weight")
    if weight is None or not isinstance(weight.type, WeightType) or node.op.attrs.get("alternating"):
        return False
    return weight.type.interleaved
