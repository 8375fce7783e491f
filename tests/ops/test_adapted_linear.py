"""Adapted linear layers and their gradients against NumPy in float64, on 1 to 8 threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.native_plans import pack
from support.training_plans import close, run_training

from weft import ops
from weft.errors import PlanError
from weft.ops.adapted_linear_input_grad import adapted_linear_input_grad
from weft.plan import Recorder
from weft.plan.backward import backward
from weft.runtime import Pool
from weft.types import DType

# rows, K, and of each part: its first column, columns, rank
PROBLEMS = [
    (1, 8, [(0, 8, 1)]),
    (33, 40, [(0, 24, 5)]),
    (50, 64, [(64, 64, 33)]),
    (64, 300, [(0, 34, 3), (34, 50, 7)]),
    (61, 576, [(0, 96, 16), (96, 64, 16), (160, 64, 16)]),
]


@pytest.fixture
def draw():
    generator = np.random.default_rng(6)

    def rounded(*shape):
        values = torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
        return values.bfloat16().float().numpy()

    return rounded


def weights_of(draw, k, parts):
    n = max(first + columns for first, columns, _ in parts)
    weights = {"w": draw(n, k)}
    for index, (_, columns, rank) in enumerate(parts):
        weights |= {f"a{index}": draw(rank, k), f"b{index}": draw(columns, rank)}
    return n, weights


def layer_parts(r, parts):
    return [
        ops.LayerAdapter(first, r.weight(f"a{index}"), r.weight(f"b{index}"))
        for index, (first, _, _) in enumerate(parts)
    ]


def rows_of(r, name, columns):
    return ops.scale(r.input(name, columns=columns, dtype=DType.F32), 1.0)


@pytest.mark.parametrize(("rows", "k", "parts"), PROBLEMS)
@pytest.mark.parametrize("compute", ["f32", "bf16"])
def test_adapted_linear_and_its_gradients(draw, rows, k, parts, compute):
    n, weights = weights_of(draw, k, parts)
    weights |= {f"d_{name}": np.zeros_like(values) for name, values in list(weights.items())}

    def model(r):
        r.compute = compute
        x, d_out = rows_of(r, "x", k), rows_of(r, "d_out", n)
        out = ops.adapted_linear(x, r.weight("w"), layer_parts(r, parts), 0.5)
        r.output("out", out)
        gradients = adapted_linear_input_grad(
            d_out, r.weight("w"), layer_parts(r, parts), 0.5, ops.add(x, x), compute
        )
        r.output("d_x", gradients[0])
        r.output("d_low", gradients[1])
        backward(r, {out: d_out})

    got = run_training(model, weights, {"x": draw(rows, k), "d_out": draw(rows, n)})
    # In bfloat16 the low columns are rounded before they are multiplied.
    close(got, rtol=4e-3 if compute == "bf16" else 3e-6)


@pytest.mark.parametrize("target", ["f32", "bf16"])
def test_over_a_packed_weight(draw, target):
    parts = [(0, 64, 4), (64, 32, 4)]
    n, weights = weights_of(draw, 96, parts)
    with Pool(2) as pool:
        weights["w"] = pack(weights["w"], pool, target=target)
    weights |= {f"d_{name}": np.zeros_like(weights[name]) for name in ("a0", "b0", "a1", "b1")}

    def model(r):
        x = rows_of(r, "x", 96)
        out = ops.adapted_linear(x, r.weight("w"), layer_parts(r, parts), 2.0)
        h = ops.add(rows_of(r, "h", n), out)  # fused: a residual
        r.output("h", h)
        backward(r, {h: rows_of(r, "d_h", n)})

    inputs = {"x": draw(40, 96), "h": draw(40, n), "d_h": draw(40, n)}
    close(run_training(model, weights, inputs), rtol=3e-6)


def test_adapters_that_do_not_fit_are_refused(draw):
    parts = [(1, 8, 2)]
    _, weights = weights_of(draw, 8, parts)
    from weft.runtime import Tensor

    r = Recorder({name: Tensor(values) for name, values in weights.items()})
    with pytest.raises(PlanError, match="adapters of"):
        ops.adapted_linear(rows_of(r, "x", 8), r.weight("w"), layer_parts(r, parts), 1.0)
