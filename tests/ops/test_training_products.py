"""Products with tensors and their gradients against NumPy in float64 and torch, on 1 to 8 threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.native_plans import THREADS, executables, pack
from support.training_plans import close, run_training

from weft import ops
from weft.ops.linear_input_grad import linear_input_grad
from weft.ops.linear_weight_grad import linear_weight_grad
from weft.ops.silu_gate import SiluGate
from weft.ops.silu_gate_grad import SiluGateGrad, silu_gate_grad
from weft.plan import Recorder, freeze
from weft.plan.backward import backward
from weft.runtime import Pool, Tensor
from weft.types import DType

SIZES = [(1, 1, 1), (1, 40, 7), (5, 16, 16), (13, 33, 70), (64, 100, 48), (33, 17, 340)]


@pytest.fixture
def draw():
    generator = np.random.default_rng(4)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


def activations(r, columns, name="x"):
    return r.input(name, columns=columns, dtype=DType.F32)


def bf16(array):
    return torch.from_numpy(array).bfloat16().float().numpy()


@pytest.mark.parametrize(("rows", "n", "k"), SIZES)
@pytest.mark.parametrize("compute", ["f32", "bf16"])
def test_linear_and_its_gradients(draw, rows, n, k, compute):
    weights = {"w": draw(n, k), "b": draw(n), "d_w": draw(n, k), "d_b": draw(n), "only_w": draw(n, k)}
    inputs = {"x": draw(rows, k), "d_out": draw(rows, n)}
    if compute == "bf16":  # then rounding changes nothing, and the reference needs none
        inputs = {name: bf16(array) for name, array in inputs.items()}
        weights["w"] = bf16(weights["w"])

    def model(r):
        r.compute = compute
        x, d_out = activations(r, k), activations(r, n, "d_out")
        r.output("plain", ops.linear(x, r.weight("w")))
        r.output("biased", ops.linear(x, r.weight("w"), r.weight("b")))
        r.output("d_x", linear_input_grad(d_out, r.weight("w"), compute=compute))
        r.output("sum", linear_input_grad(d_out, r.weight("w"), ops.add(x, x), compute))
        linear_weight_grad(x, d_out, r.weight("d_w"), r.weight("d_b"), compute)
        linear_weight_grad(x, d_out, r.weight("only_w"), compute=compute)

    # bfloat16 dot instructions keep float32 sums; only their order differs.
    close(run_training(model, weights, inputs), rtol=3e-6)


def test_bf16_rounds_both_factors(draw):
    x, w = draw(9, 40), draw(24, 40)

    def model(r):
        r.compute = "bf16"
        r.output("out", ops.linear(activations(r, 40), r.weight("w")))

    got, _ = run_training(model, {"w": w}, {"x": x})["out"]
    np.testing.assert_allclose(got, bf16(x).astype(np.float64) @ bf16(w).T, rtol=1e-5, atol=1e-5)
    assert np.abs(got - x @ w.T).max() > 1e-4


@pytest.mark.parametrize("features", [1, 5, 16, 37, 64])
def test_gate_and_up_are_kept_as_bf16(draw, features):
    x, w, d = draw(14, 40), draw(2 * features, 40), draw(14, features)

    def model(r):
        r.compute = "bf16"
        rows = activations(r, 40)
        r.output("plain", ops.linear(rows, r.weight("w")))  # a result, so it is float32
        gate_up = ops.linear(rows, r.weight("w"))
        r.output("gated", ops.silu_gate(gate_up))
        r.output("d_x", silu_gate_grad(gate_up, activations(r, features, "d")))

    got = {name: pair[0] for name, pair in run_training(model, {"w": w}, {"x": x, "d": d}).items()}
    kept = bf16(got["plain"]).astype(np.float64)
    np.testing.assert_allclose(got["gated"], SiluGate().reference(kept), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["d_x"], SiluGateGrad().reference(kept, d), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "features"), [(1, 2), (13, 17), (40, 33), (64, 96)])
def test_gates_between_products_are_kept_as_bf16(draw, rows, features):
    weights = {"up": bf16(draw(2 * features, 40)), "down": bf16(draw(70, features))}
    weights |= {f"d_{name}": np.zeros_like(values) for name, values in list(weights.items())}
    inputs = {"x": bf16(draw(rows, 40)), "d_out": bf16(draw(rows, 70))}

    def model(r):
        r.compute = "bf16"
        x = ops.scale(activations(r, 40), 1.0)
        gate_up = ops.linear(x, r.weight("up"))
        gated = ops.silu_gate(gate_up)
        out = ops.linear(gated, r.weight("down"))
        r.output("out", out)
        backward(r, {out: ops.scale(activations(r, 70, "d_out"), 1.0)})

    close(run_training(model, weights, inputs), rtol=1e-2)


@pytest.mark.parametrize("target", ["f32", "bf16", "q8", "int8", "q4"])
def test_input_gradient_through_a_packed_weight(draw, target):
    with Pool(2) as pool:
        weight = pack(draw(70, 96), pool, target=target)

    def model(r):
        r.output("d_x", linear_input_grad(activations(r, 70, "d_out"), r.weight("w")))

    close(run_training(model, {"w": weight}, {"d_out": draw(21, 70)}), rtol=3e-6)


def test_gradients_equal_torch(draw):
    x, w, b, d_out = draw(50, 30), draw(20, 30), draw(20), draw(50, 20)
    x_, w_, b_ = (torch.from_numpy(array.copy()).requires_grad_() for array in (x, w, b))
    torch.nn.functional.linear(x_, w_, b_).backward(torch.from_numpy(d_out))
    weights = {"w": w, "d_w": np.zeros_like(w), "d_b": np.zeros_like(b)}

    def model(r):
        d = activations(r, 20, "d_out")
        linear_weight_grad(activations(r, 30), d, r.weight("d_w"), r.weight("d_b"))
        r.output("d_x", linear_input_grad(d, r.weight("w")))

    got = run_training(model, weights, {"x": x, "d_out": d_out})
    expected = {"d_x": x_.grad, "d_w": w_.grad, "d_b": b_.grad}
    close({name: (got[name][0], gradient.numpy()) for name, gradient in expected.items()}, rtol=2e-6)


def test_gradients_add_up_over_runs_and_no_rows_change_nothing(draw):
    x, d_out, start = draw(12, 8), draw(12, 6), draw(6, 8)
    r = Recorder({"d_w": Tensor(start)})
    linear_weight_grad(activations(r, 8), activations(r, 6, "d_out"), r.weight("d_w"))
    r.output("x", ops.add(r.input("x", columns=8, dtype=DType.F32), r.input("x", columns=8, dtype=DType.F32)))
    plan = freeze(r.finish(), {"rows": 16})
    for threads in THREADS:
        gradient = start.copy()
        ((executable, _),) = executables(plan, {"d_w": Tensor(gradient)}, [threads])
        with executable.pool:
            for rows in (12, 0, 12):
                executable.run({"x": x[:rows], "d_out": d_out[:rows]})
        close({"d_w": (gradient, start + 2 * (d_out.T.astype(np.float64) @ x))})
