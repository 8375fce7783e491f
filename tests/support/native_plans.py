"""The native core in tests: pools, packed weights, and plans run beside their NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from weft.plan import Plan, Recorder, freeze
from weft.plan.reference import ReferenceExecutable
from weft.types import Array

pytest.importorskip("weft._native", reason="the native core is not built")

from weft.runtime import Executable, KvCache, Pool, Weight, WeightPart, compile, native

THREADS = (1, 2, 3, 8)


def pack(content: Array, pool: Pool, interleave: bool = False, target: str | None = None) -> Weight:
    """A float32 matrix [n, k] as a packed weight; an interleaved one of two halves."""
    halves = np.split(content, 2) if interleave else [content]
    parts = [
        WeightPart("F32", *half.shape, memoryview(np.ascontiguousarray(half, np.float32)).cast("B"))
        for half in halves
    ]
    return Weight.pack(pool, parts, interleave, target)


def build(weights: Mapping[str, Weight | Array], model: Callable[[Recorder], None], rows: int) -> Plan:
    """The fused plan of what `model` records, for at most `rows` rows of each dimension."""
    r = Recorder(weights)
    model(r)
    return freeze(r.finish(), {"rows": rows, "outputs": rows, "sequences": rows})


def executables(
    plan: Plan, weights: Mapping[str, Weight | Array], threads: Sequence[int] = THREADS, num_blocks: int = 16
) -> list[tuple[Executable, KvCache | None]]:
    """The plan compiled for pools of each number of threads, each with a cache of its own."""
    made = []
    for count in threads:
        caches = {name: KvCache(state.type, num_blocks) for name, state in plan.states.items()}
        pool = Pool(count)
        made.append((compile(plan, pool, weights, caches), next(iter(caches.values()), None)))
    return made


def run_everywhere(
    plan: Plan, weights: Mapping[str, Weight | Array], steps: Sequence[Mapping[str, Array]]
) -> list[tuple[dict[str, Array], dict[str, Array]]]:
    """(native, reference) outputs of each step; native bits must not depend on the number of threads."""
    reference = ReferenceExecutable(plan, weights, num_blocks=16)
    expected = [reference.run(step) for step in steps]
    first: list[dict[str, Array]] = []
    for executable, _ in executables(plan, weights):
        with executable.pool:
            got = [executable.run(step) for step in steps]
        first = first or got
        for one, other in zip(first, got, strict=True):
            for name, values in one.items():
                np.testing.assert_array_equal(values.view(np.uint32), other[name].view(np.uint32))
    return list(zip(first, expected, strict=True))


def rounds_rows(target: str) -> bool:
    """Whether products with weights of this kind round the rows they take: to 8 bits, or to bfloat16, which
    the avx512 path multiplies in pairs.
    """
    return target in ("q8", "int8", "q4") or (target == "bf16" and native().isa_selected() == "avx512")


def other_isas() -> list[str]:
    """Instruction sets of this machine besides the one in use."""
    return [isa for isa in native().isa_available() if isa != native().isa_selected()]
