"""low_rank, and the alternating columns that it adds to: against NumPy, each row alone or among others."""

from __future__ import annotations

import numpy as np
import pytest
from support.native_plans import THREADS, build, executables, pack, run_everywhere

from weft import ops
from weft.errors import WeftError
from weft.ops.low_rank import LowRankSegment, segment_fields
from weft.runtime import Pool
from weft.types import DType

K, N = 37, 96
SEGMENTS = [
    LowRankSegment(1, 3, 0, 20, 20, 20),
    LowRankSegment(1, 8, 20, 76, 76, 76),
    LowRankSegment(2, 17, 16, 48, 16, 32),  # every second block of 16
    LowRankSegment(4, 1, 95, 1, 1, 1),
]


@pytest.fixture
def draw():
    generator = np.random.default_rng(3)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


@pytest.fixture
def weights(draw):
    return {
        "a": draw(sum(s.rank for s in SEGMENTS) * K),
        "b": draw(sum(s.rank * s.columns for s in SEGMENTS)),
        "segments": segment_fields(SEGMENTS),
    }


def model(r):
    x, base = (r.input(name, columns=columns, dtype=DType.F32) for name, columns in (("x", K), ("base", N)))
    operands = [r.weight(name) for name in ("a", "b", "segments")]
    r.output("of an input", ops.low_rank(x, base, r.input("adapters"), *operands, num_adapters=4))
    r.output("in place", ops.low_rank(x, ops.add(base, base), r.input("adapters"), *operands, num_adapters=4))


def step(draw, adapters):
    rows = len(adapters)
    return {"x": draw(rows, K), "base": draw(rows, N), "adapters": np.array(adapters, np.int32)[:, None]}


MIXES = [[0], [1], [2], [3], [4], [1, 1, 1, 1, 1, 2, 2, 0, 4, 4, 4, 4, 1], [0] * 5, [2] * 33, [1, 2] * 8]


def test_every_row_gets_what_its_adapter_adds(draw, weights):
    steps = [step(draw, mix) for mix in MIXES]
    for inputs, (got, expected) in zip(
        steps, run_everywhere(build(weights, model, rows=64), weights, steps), strict=True
    ):
        for name, values in expected.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=3e-5)
        without = inputs["adapters"][:, 0] % 3 == 0
        np.testing.assert_array_equal(got["of an input"][without], inputs["base"][without])


def test_a_row_is_the_same_alone_and_among_others(draw, weights):
    whole = step(draw, [1, 1, 1, 1, 1, 1, 2, 2, 2, 4, 0, 2, 2, 2, 2])
    ((executable, _),) = executables(build(weights, model, rows=64), weights, THREADS[:1])
    with executable.pool:
        together = {name: values.copy() for name, values in executable.run(whole).items()}
        for row in range(len(whole["x"])):
            alone = executable.run({name: values[row : row + 1] for name, values in whole.items()})
            for name, values in alone.items():
                np.testing.assert_array_equal(values[0].view(np.uint32), together[name][row].view(np.uint32))


def test_an_adapter_that_is_none_is_refused(draw, weights):
    ((executable, _),) = executables(build(weights, model, rows=64), weights, THREADS[:1])
    with executable.pool:
        for number in (-1, 5):
            with pytest.raises(WeftError, match="adapters"):
                executable.run(step(draw, [1, number]))


@pytest.mark.parametrize("target", ["f32", "bf16", "q8", "int8", "q4"])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_alternating_columns_give_the_bits_of_the_fused_gate(draw, target, rows):
    weights = {"pair": pack(draw(96, 64), Pool(1), interleave=True, target=target), "norm": draw(64)}

    def gated(r):
        x = r.input("x", columns=64, dtype=DType.F32)
        residual = r.input("residual", columns=48, dtype=DType.F32)
        normed = ops.rms_norm(x, r.weight("norm"), 1e-5)
        r.output("fused", ops.add(residual, ops.silu_gate(ops.linear(normed, r.weight("pair")))))
        kept = ops.rms_norm(x, r.weight("norm"), 1e-5)
        r.output("kept", kept)
        plain = ops.linear(kept, r.weight("pair"), alternating=True)
        r.output("alternating", plain)
        r.output("apart", ops.add(residual, ops.silu_gate(plain, alternating=True)))

    inputs = {"x": draw(rows, 64), "residual": draw(rows, 48)}
    ((got, expected),) = run_everywhere(build(weights, gated, rows=64), weights, [inputs])
    np.testing.assert_array_equal(got["fused"].view(np.uint32), got["apart"].view(np.uint32))
    if target in ("f32", "bf16"):
        np.testing.assert_allclose(got["alternating"], expected["alternating"], rtol=0.02, atol=0.05)
