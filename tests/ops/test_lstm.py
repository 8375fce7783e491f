"""The recurrent layer, natively against NumPy in float64 on 1 to 8 threads, and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.native_plans import build, pack, rounds_rows, run_everywhere
from support.training_plans import close, run_training

from weft.ops.lstm import Lstm
from weft.ops.lstm_grad import LstmGrad
from weft.ops.operation import record
from weft.ops.stateful_lstm import stateful_lstm
from weft.runtime import Pool
from weft.types import DType


@pytest.fixture
def draw():
    generator = np.random.default_rng(3)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


def sequences(*lengths):
    firsts = np.cumsum((0, *lengths[:-1]))
    return np.stack([firsts, lengths], axis=1).astype(np.int32)


def inputs(draw, lengths, hidden):
    rows = sum(lengths)
    return {
        "x_gates": draw(rows, 4 * hidden),
        "d_h": draw(rows, hidden),
        "sequences": sequences(*lengths),
    }


def model(hidden, compute="f32"):
    def build(r):
        x_gates = r.input("x_gates", columns=4 * hidden, dtype=DType.F32)
        d_h = r.input("d_h", columns=hidden, dtype=DType.F32)
        where = r.input("sequences", "sequences", columns=2)
        weight = r.weight("w")
        h, c, gates = record(Lstm(compute), x_gates=x_gates, weight=weight, sequences=where)
        r.output("h", h)
        r.output("c", c)
        r.output("gates", gates)
        grad = {"d_h": d_h, "gates": gates, "c": c, "weight": weight, "sequences": where}
        r.output("d_gates", record(LstmGrad(compute), **grad)[0])

    return build


@pytest.mark.parametrize("hidden", [1, 7, 16, 40, 130])
@pytest.mark.parametrize("lengths", [(1,), (9,), (3, 1, 7, 7, 2), tuple(range(1, 11))], ids=str)
def test_against_the_reference(draw, hidden, lengths):
    weights = {"w": draw(4 * hidden, hidden) / np.float32(hidden**0.5)}
    close(run_training(model(hidden), weights, inputs(draw, lengths, hidden)), rtol=1e-5)


def test_more_inputs_than_a_block(draw):
    weights = {"w": draw(4 * 300, 300) / np.float32(300**0.5)}
    close(run_training(model(300), weights, inputs(draw, (5, 2, 6), 300)), rtol=1e-5)


def test_bf16_compute(draw):
    weights = {"w": draw(4 * 48, 48) / 7}
    close(run_training(model(48, "bf16"), weights, inputs(draw, (5, 9), 48)), rtol=2e-2)


def test_a_packed_weight(draw):
    with Pool(2) as pool:
        weight = pack(draw(4 * 64, 64) / 8, pool, target="bf16")
    close(run_training(model(64), {"w": weight}, inputs(draw, (5, 9), 64)), rtol=1e-5)


def test_it_equals_torch(draw):
    hidden, steps, batch = 24, 11, 3
    x = torch.from_numpy(draw(batch, steps, hidden)).requires_grad_()
    layer = torch.nn.LSTM(hidden, hidden, batch_first=True)
    h, _ = layer(x)
    d_h = draw(batch * steps, hidden)
    h.backward(torch.from_numpy(d_h.reshape(batch, steps, hidden)))
    with torch.no_grad():
        gates = torch.nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    given = {
        "x_gates": gates.reshape(-1, 4 * hidden).numpy(),
        "d_h": d_h,
        "sequences": sequences(*[steps] * batch),
    }
    got = run_training(model(hidden), {"w": layer.weight_hh_l0.detach().numpy()}, given)
    d_gates = got["d_gates"][0]
    expected = {
        "h": (got["h"][0], h.detach().reshape(-1, hidden).numpy()),
        "d_x": (d_gates @ layer.weight_ih_l0.detach().numpy(), x.grad.reshape(-1, hidden).numpy()),
        "d_weight_ih": (d_gates.T @ x.detach().reshape(-1, hidden).numpy(), layer.weight_ih_l0.grad.numpy()),
        "d_bias": (d_gates.sum(axis=0), layer.bias_ih_l0.grad.numpy()),
    }
    close(expected, rtol=5e-6)


def stateful(hidden):
    def build(r):
        x_gates = r.input("x_gates", columns=4 * hidden, dtype=DType.F32)
        where = r.input("sequences", "sequences", columns=4)
        state = r.input("state", "sequences", 2 * hidden, DType.F32)
        h, after = stateful_lstm(x_gates, r.weight("w"), where, state)
        r.output("h", h)
        r.output("state", after)

    return build


def step(x_gates, state, lengths):
    where = np.pad(sequences(*lengths), ((0, 0), (0, 2)))
    return {"x_gates": x_gates, "sequences": where, "state": state}


@pytest.mark.parametrize("target", ["f32", "bf16", "q8", "int8", "q4"])
@pytest.mark.parametrize("hidden", [1, 31, 64, 100])
@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (3, 1, 7, 7, 2), (1,) * 70, (40, 9)], ids=str)
def test_a_layer_that_goes_on_against_the_reference(draw, target, hidden, lengths):
    with Pool(2) as pool:
        weights = {"w": pack(draw(4 * hidden, hidden) / np.float32(hidden**0.5), pool, target=target)}
    inputs = step(draw(sum(lengths), 4 * hidden), draw(len(lengths), 2 * hidden), lengths)
    plan = build(weights, stateful(hidden), 80)
    ((got, expected),) = run_everywhere(plan, weights, [inputs])
    rtol = 2e-2 if rounds_rows(target) else 1e-5
    close({name: (got[name], expected[name]) for name in got}, rtol=rtol)


@pytest.mark.parametrize("target", ["bf16", "q4"])
def test_a_text_in_parts_beside_others_has_the_same_bits(draw, target):
    hidden, rows, others = 72, 50, 20
    with Pool(1) as pool:
        weights = {"w": pack(draw(4 * hidden, hidden) / 8, pool, target=target)}
    x_gates, start = draw(rows, 4 * hidden), draw(1, 2 * hidden)
    plan = build(weights, stateful(hidden), 100)
    ((whole, _),) = run_everywhere(plan, weights, [step(x_gates, start, (rows,))])
    state, parts = start, []
    for first, last in ((0, 1), (1, 2), (2, 33), (33, 50)):
        beside = draw(others, 4 * hidden)
        count = last - first
        given = np.concatenate([beside[:7], x_gates[first:last], beside[7:]])
        states = np.concatenate([draw(7, 2 * hidden), state, draw(others - 7, 2 * hidden)])
        ((got, _),) = run_everywhere(
            plan, weights, [step(given, states, (1,) * 7 + (count,) + (1,) * (others - 7))]
        )
        parts.append(got["h"][7 : 7 + count])
        state = got["state"][7:8]
    np.testing.assert_array_equal(np.concatenate(parts).view(np.uint32), whole["h"].view(np.uint32))
    np.testing.assert_array_equal(state.view(np.uint32), whole["state"].view(np.uint32))
