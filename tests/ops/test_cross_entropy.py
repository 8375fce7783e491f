"""The loss and its gradients, natively against NumPy in float64 on 1 to 8 threads, and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.native_plans import build, executables, pack
from support.training_plans import close, run_training

from weft.errors import ConfigError
from weft.ops.cross_entropy import cross_entropy
from weft.ops.cross_entropy_grad import cross_entropy_grad
from weft.runtime import Pool, Tensor
from weft.types import DType


@pytest.fixture
def draw():
    generator = np.random.default_rng(8)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


def inputs(draw, rows, features, vocabulary):
    targets = np.random.default_rng(rows).integers(0, vocabulary, (rows, 1), dtype=np.int32)
    weights = np.abs(draw(rows, 1))
    weights[::3] = 0  # ignored rows
    return {"x": draw(rows, features), "targets": targets, "loss_weights": weights}


def model(features, tensors=True, **settings):
    def record(r):
        x = r.input("x", columns=features, dtype=DType.F32)
        targets = r.input("targets")
        loss, correct = cross_entropy(x, r.weight("w"), targets, **settings)
        r.output("loss alone", loss)
        r.output("correct alone", correct)
        weights = r.input("loss_weights", columns=1, dtype=DType.F32)
        d_w = r.weight("d_w") if tensors else None
        loss, correct, d_x = cross_entropy_grad(x, r.weight("w"), targets, weights, d_w, **settings)
        r.output("loss", loss)
        r.output("correct", correct)
        r.output("d_x", d_x)

    return record


@pytest.mark.parametrize(
    ("rows", "features", "vocabulary"),
    [(1, 1, 1), (1, 7, 40), (5, 16, 257), (13, 33, 1100), (64, 20, 48), (300, 24, 530), (513, 8, 31)],
)
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1, "z_loss": 1e-2}], ids=["plain", "smooth"])
def test_against_the_reference(draw, rows, features, vocabulary, settings):
    weights = {"w": draw(vocabulary, features), "d_w": draw(vocabulary, features)}
    given = inputs(draw, rows, features, vocabulary)
    got = run_training(model(features, **settings), weights, given, rows=600)
    close(got, rtol=5e-6)
    for name in ("loss", "correct"):
        np.testing.assert_array_equal(got[name][0], got[f"{name} alone"][0])


def test_bf16_compute(draw):
    weights = {"w": draw(300, 40), "d_w": draw(300, 40)}
    close(run_training(model(40, compute="bf16"), weights, inputs(draw, 50, 40, 300)), rtol=2e-2)


@pytest.mark.parametrize("target", ["bf16", "q8", "int8", "q4"])
def test_a_frozen_packed_head(draw, target):
    with Pool(2) as pool:
        weight = pack(draw(150, 64), pool, target=target)
    close(run_training(model(64, tensors=False), {"w": weight}, inputs(draw, 20, 64, 150)), rtol=5e-6)


def test_it_equals_torch(draw):
    given = inputs(draw, 40, 16, 90)
    weight = draw(90, 16)
    x, w = (torch.from_numpy(array.copy()).requires_grad_() for array in (given["x"], weight))
    targets = torch.from_numpy(given["targets"][:, 0].astype(np.int64))
    losses = torch.nn.functional.cross_entropy(x @ w.T, targets, reduction="none", label_smoothing=0.1)
    (losses * torch.from_numpy(given["loss_weights"][:, 0])).sum().backward()
    weights = {"w": weight, "d_w": np.zeros_like(weight)}
    got = run_training(model(16, label_smoothing=0.1), weights, given)
    expected = {"loss": losses.detach()[:, None], "d_x": x.grad, "d_w": w.grad}
    close({name: (got[name][0], value.numpy()) for name, value in expected.items()}, rtol=3e-6)


def test_the_first_of_equal_logits_is_the_guess(draw):
    weight = np.repeat(draw(1, 8), 40, axis=0)
    targets = np.array([[0], [1], [39]], np.int32)
    given = {"x": draw(3, 8), "targets": targets, "loss_weights": np.ones((3, 1), np.float32)}
    got = run_training(model(8), {"w": weight, "d_w": np.zeros_like(weight)}, given)
    assert got["correct"][0].tolist() == [[1.0], [0.0], [0.0]]


def test_logits_that_are_not_numbers_show(draw):
    given = inputs(draw, 4, 8, 40)
    given["x"][1] = np.nan
    weights = {"w": Tensor(draw(40, 8)), "d_w": Tensor(np.zeros((40, 8), np.float32))}
    ((executable, _),) = executables(build(weights, model(8), 64), weights, [2])
    loss = executable.run(given)["loss"]
    assert np.isnan(loss[1]) and np.isfinite(loss[[0, 2, 3]]).all()


def test_targets_beyond_the_vocabulary_are_refused(draw):
    given = inputs(draw, 4, 8, 40)
    given["targets"][2] = 40
    weights = {"w": Tensor(draw(40, 8)), "d_w": Tensor(np.zeros((40, 8), np.float32))}
    ((executable, _),) = executables(build(weights, model(8), 64), weights, [1])
    with pytest.raises(ConfigError, match="targets from 0 to 39, got 40 in row 2"):
        executable.run(given)
