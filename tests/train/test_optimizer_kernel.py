"""The native optimizer against torch and NumPy, and its bits on any number of threads and teams."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("weft._native", reason="the native core is not built")

from train.test_optimizer import rule, torch_optimizer

from weft.errors import ConfigError
from weft.optimizer_runtime import OptimizerKernel
from weft.runtime import Pool
from weft.train.optimizer import Optimizer

SHAPES = {"matrix": (301, 407), "vector": (77,), "row": (1, 33), "large": (1000, 131), "one": (1,)}
RULES = [
    rule("adamw"),
    rule("adam"),
    rule("sgd"),
    rule("sgd", momentum=0.0),
    rule("sgd", nesterov=True),
]
POOLS = [(1, 1), (2, 1), (3, 3), (8, 2)]


def start():
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def run(chosen, threads, teams, steps=4):
    weights = start()
    gradients = {name: np.zeros_like(weight) for name, weight in weights.items()}
    norms = []
    with Pool(threads, teams) as pool:
        optimizer = Optimizer(chosen, 1.0, weights, gradients, OptimizerKernel(pool))
        random = np.random.default_rng(1)
        for step in range(1, steps + 1):
            for gradient in gradients.values():
                gradient[...] = random.normal(size=gradient.shape)
            norms.append(optimizer.gradient_norm())
            optimizer.step(norms[-1], 0.01, step)
            assert not any(gradient.any() for gradient in gradients.values())
    return weights, optimizer.state, norms


@pytest.mark.parametrize("chosen", RULES, ids=str)
def test_it_equals_torch_to_rounding(chosen):
    torch = pytest.importorskip("torch")
    weights, _, norms = run(chosen, 2, 1)
    theirs = {name: torch.nn.Parameter(torch.tensor(weight)) for name, weight in start().items()}
    decaying = [theirs["matrix"], theirs["large"]]
    others = [theirs[name] for name in ("vector", "row", "one")]
    peer = torch_optimizer(torch, chosen, [(decaying, chosen.weight_decay), (others, 0.0)], 0.01)
    random = np.random.default_rng(1)
    for norm in norms:
        for parameter in theirs.values():
            parameter.grad = torch.tensor(random.normal(size=parameter.shape).astype(np.float32))
        squares = sum(float((p.grad.double() ** 2).sum()) for p in theirs.values())
        assert norm == pytest.approx(squares**0.5, rel=1e-12)
        torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        peer.step()
    for name, weight in weights.items():
        expected = theirs[name].detach().numpy()
        np.testing.assert_allclose(weight, expected, atol=1e-4)
        # Where gradient and decay nearly cancel, Adam divides what rounding left by itself.
        far = np.abs(weight - expected) > 2e-6 * np.abs(expected) + 1e-6
        assert np.mean(far) < 1e-4


@pytest.mark.parametrize("chosen", RULES, ids=str)
def test_threads_and_teams_change_no_bit(chosen):
    first = run(chosen, *POOLS[0], steps=2)
    for threads, teams in POOLS[1:]:
        weights, state, norms = run(chosen, threads, teams, steps=2)
        assert norms == first[2]
        for expected, got in ((first[0], weights), (first[1], state)):
            for name, values in expected.items():
                np.testing.assert_array_equal(values.view(np.uint32), got[name].view(np.uint32))


def test_a_norm_that_is_not_finite_shows():
    with Pool(2) as pool:
        kernel = OptimizerKernel(pool)
        assert np.isnan(kernel.gradient_norm([np.array([1, np.nan], np.float32)]))
        assert np.isinf(kernel.gradient_norm([np.array([1, np.inf], np.float32)]))
        assert kernel.gradient_norm([]) == 0.0


def test_lists_that_do_not_fit_are_refused():
    one = np.ones(3, np.float32)
    with Pool(1) as pool:
        kernel = OptimizerKernel(pool)
        with pytest.raises(ConfigError, match="expected second moments"):
            kernel.update(rule("adam"), [(one, one.copy(), one.copy(), None)], 0.1, 1.0, 1)
        with pytest.raises(ConfigError, match="expected gradients of the weights' sizes"):
            kernel.update(rule("sgd", momentum=0.0), [(one, np.ones(4, np.float32), None, None)], 0.1, 1.0, 1)
        with pytest.raises(ConfigError, match="count updates from 1"):
            kernel.update(rule("sgd", momentum=0.0), [(one, one.copy(), None, None)], 0.1, 1.0, 0)
