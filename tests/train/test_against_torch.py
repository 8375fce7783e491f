"""Native training of whole models beside torch: gradients, the course of the loss, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support import tiny_models  # noqa: E402 (torch first)
from support.torch_twins import make_batch, make_twin  # noqa: E402

from weft.models.training import build_evaluation_plan, build_training_plan  # noqa: E402
from weft.optimizer_runtime import OptimizerKernel  # noqa: E402
from weft.runtime import Pool  # noqa: E402
from weft.train.model_trainable import ModelTrainable, TrainingPlans  # noqa: E402
from weft.train.optimizer import Optimizer, UpdateRule  # noqa: E402
from weft.train.trainer import hash_weights  # noqa: E402

MAX_ROWS = 64
LEARNING_RATES = {"gpt2": 3e-3, "llama": 3e-3, "lstm": 1e-2, "perceptron": 3e-3}
RULE = UpdateRule("adamw", 0.9, 0.95, 1e-8, 0.01, 0.0, False)
TRAINED = ("gpt2", "llama", "lstm", "perceptron")
TEAMS = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (8, 1), (8, 4)]


@pytest.fixture(autouse=True)
def one_torch_thread():
    """torch's own threads wait for each other by spinning, which on busy cores takes seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainable(twin, pool, compute="f32"):
    """The twin's weights, copied, in native training."""
    plans = TrainingPlans(
        train=lambda weights, rows: build_training_plan(twin.config, weights, rows, compute=compute),
        evaluate=lambda weights, rows: build_evaluation_plan(twin.config, weights, rows, compute=compute),
    )
    weights = {name: weight.copy() for name, weight in twin.weights.items()}
    return ModelTrainable(plans, weights, pool, MAX_ROWS)


def train(name, pool, steps, compute="f32"):
    """The loss of each step, and the weights afterwards."""
    model = trainable(make_twin(name), pool, compute)
    optimizer = Optimizer(RULE, 1.0, model.weights, model.gradients, OptimizerKernel(pool))
    losses = []
    for step in range(steps):
        results = model.run(make_batch(step))
        optimizer.step(optimizer.gradient_norm(), LEARNING_RATES[name], step + 1)
        losses.append(sum(one.loss_sum for one in results) / sum(one.num_tokens for one in results))
    return np.array(losses), model.weights


def train_torch(name, steps, autocast=False):
    """torch's loss of each step."""
    twin, decays, others = make_twin(name), [], []
    for parameter in twin.parameters:
        (decays if parameter.ndim > 1 else others).append(parameter)
    groups = [
        {"params": decays, "weight_decay": RULE.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=LEARNING_RATES[name], betas=(RULE.beta1, RULE.beta2), eps=RULE.eps
    )
    losses = []
    for step in range(steps):
        found, total = [], 0
        for part in make_batch(step):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                rows = twin.losses(part)
            total = total + (rows * torch.tensor(part.loss_weights[:, 0])).sum()
            found.append(rows.detach())
        total.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(torch.cat(found).mean()))
    return np.array(losses)


@pytest.mark.parametrize("name", [*tiny_models.MODELS, "lstm", "perceptron"])
def test_gradients_of_every_model(name):
    twin, batch = make_twin(name), make_batch(0)
    with Pool(2) as pool:
        model = trainable(twin, pool)
        results = model.run(batch)
        got = {key: gradient.copy() for key, gradient in model.gradients.items()}
    losses = [twin.losses(part) for part in batch]
    assert sum(one.loss_sum for one in results) == pytest.approx(
        float(torch.cat(losses).sum().detach()), rel=1e-5
    )
    weights = [torch.tensor(part.loss_weights[:, 0]) for part in batch]
    sum((one * weight).sum() for one, weight in zip(losses, weights, strict=True)).backward()
    ours = np.concatenate([gradient.ravel() for gradient in got.values()])
    theirs = np.concatenate([p.grad.numpy().ravel() for p in twin.parameters if p.grad is not None])
    # Joined and transposed weights have other places in torch: all values together, in order of size.
    np.testing.assert_allclose(np.sort(ours), np.sort(_padded(theirs, len(ours))), rtol=1e-4, atol=2e-6)


def _padded(values, size):
    """Zeros for what torch has no gradient of: rows of a table that no token named."""
    return np.concatenate([values, np.zeros(size - len(values), values.dtype)])


@pytest.mark.parametrize("name", TRAINED)
def test_fifty_steps_follow_torch(name):
    with Pool(2) as pool:
        ours, _ = train(name, pool, 50)
    theirs = train_torch(name, 50)
    assert ours[-5:].mean() < 0.9 * ours[:5].mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_stays_within_the_spread_of_torch(name):
    exact = train_torch(name, 50)
    spread = np.abs(train_torch(name, 50, autocast=True) - exact)
    with Pool(2) as pool:
        ours, _ = train(name, pool, 50, "bf16")
    assert np.abs(ours - exact).max() > 1e-6  # bf16 did round
    assert np.abs(ours - exact).mean() <= 1.1 * spread.mean()
    assert np.abs(ours - exact).max() <= 1.5 * spread.max()


@pytest.mark.parametrize(("name", "compute"), [*((name, "f32") for name in TRAINED), ("llama", "bf16")])
def test_twenty_steps_end_in_the_same_bits_for_any_threads_and_teams(name, compute):
    hashes = set()
    for threads, teams in TEAMS:
        with Pool(threads, teams) as pool:
            hashes.add(hash_weights(train(name, pool, 20, compute)[1]))
    assert len(hashes) == 1
