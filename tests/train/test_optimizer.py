from __future__ import annotations

import numpy as np
import pytest
from support.tiny_trainable import NumpyUpdate

from weft.train.optimizer import Optimizer, UpdateRule

SHAPES = {"matrix": (5, 7), "vector": (7,), "row": (1, 7)}


def rule(kind, **changes):
    numbers = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.9}
    return UpdateRule(**({"kind": kind, "nesterov": False} | numbers | changes))


def torch_optimizer(torch, chosen, groups, learning_rate):
    groups = [{"params": p, "weight_decay": d} for p, d in groups]
    if chosen.kind == "sgd":
        return torch.optim.SGD(groups, learning_rate, chosen.momentum, nesterov=chosen.nesterov)
    kind = torch.optim.AdamW if chosen.kind == "adamw" else torch.optim.Adam
    return kind(groups, learning_rate, (chosen.beta1, chosen.beta2), chosen.eps)


@pytest.mark.parametrize(
    "chosen",
    [
        rule("adamw"),
        rule("adam"),
        rule("sgd"),
        rule("sgd", momentum=0.0),
        rule("sgd", nesterov=True),
    ],
    ids=str,
)
def test_updates_follow_torch_with_clipping_and_groups(chosen):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    gradients = {name: np.zeros_like(weight) for name, weight in weights.items()}
    optimizer = Optimizer(chosen, 1.0, weights, gradients, NumpyUpdate())
    theirs = {name: torch.nn.Parameter(torch.tensor(weight)) for name, weight in weights.items()}
    groups = [([theirs["matrix"]], 0.1), ([theirs["vector"], theirs["row"]], 0.0)]
    peer = torch_optimizer(torch, chosen, groups, 0.01)
    for step in range(1, 6):
        for name, gradient in gradients.items():
            gradient[...] = random.normal(size=gradient.shape) * (0.01 if step == 3 else 2)
            theirs[name].grad = torch.tensor(gradient)
        norm = torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        assert optimizer.gradient_norm() == pytest.approx(float(norm), rel=1e-5)
        optimizer.step(optimizer.gradient_norm(), 0.01, step)
        peer.step()
        assert not any(gradient.any() for gradient in gradients.values())
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, theirs[name].detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "momentum", "moments"), [("adamw", 0.9, 6), ("sgd", 0.9, 3), ("sgd", 0.0, 0)]
)
def test_state_holds_the_moments_that_the_rule_needs(kind, momentum, moments):
    weights = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    optimizer = Optimizer(rule(kind, momentum=momentum), 0.0, weights, weights, NumpyUpdate())
    assert len(optimizer.state) == moments
