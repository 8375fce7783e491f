"""Operations over tensors that need nothing but them: embeddings, norms, matrices side by side."""

from __future__ import annotations

import numpy as np
import pytest
from support.native_plans import build, executables, run_everywhere

from weft import ops
from weft.errors import ConfigError
from weft.runtime import Tensor
from weft.types import DType


@pytest.fixture
def draw():
    generator = np.random.default_rng(6)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 3])
def test_embedding_of_a_window_norm_and_concat(draw, width):
    weights = {
        "table": Tensor(draw(11, 5)),
        "norm": Tensor(draw(5 * width)),
        "shift": Tensor(draw(5 * width)),
    }

    def model(r):
        h = ops.embedding(r.input("tokens", columns=width), r.weight("table"))
        normed = ops.layer_norm(h, r.weight("norm"), r.weight("shift"), 1e-5)
        r.output("out", ops.concat(normed, ops.rms_norm(h, r.weight("norm"), 1e-5), h))

    plan = build(weights, model, rows=64)
    inputs = [
        {"tokens": np.arange(rows * width, dtype=np.int32).reshape(-1, width) % 11} for rows in (1, 7, 64)
    ]
    for got, expected in run_everywhere(plan, weights, inputs):
        np.testing.assert_allclose(got["out"], expected["out"], rtol=2e-5, atol=2e-6)
    with pytest.raises(ConfigError, match="from 0 to 10, got 11"):
        executables(plan, weights, [1])[0][0].run({"tokens": np.full((2, width), 11, np.int32)})


def test_a_plan_sees_what_a_tensor_became(draw):
    table = draw(4, 8)
    weights = {"table": Tensor(table)}

    def model(r):
        h = ops.embedding(r.input("tokens"), r.weight("table"))
        r.output("out", ops.add(h, h))

    ((executable, _),) = executables(build(weights, model, rows=4), weights, [2])
    tokens = {"tokens": np.array([[2]], np.int32)}
    table[2] = 5
    assert executable.run(tokens)["out"].tolist() == [[10.0] * 8]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.float64),
        np.zeros((2, 0), np.float32),
        np.zeros((2, 3), np.float32).T,
        np.float32(1),
    ],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ConfigError, match="expects a writable C-contiguous float32 array"):
        Tensor(array)


def test_a_read_only_array_is_refused():
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    with pytest.raises(ConfigError):
        Tensor(array)


def test_types(draw):
    assert Tensor(draw(3, 4)).type.shape == (3, 4) and Tensor(draw(4)).type.size == 4
    assert DType.F32.itemsize * 12 == Tensor(draw(3, 4)).type.nbytes
