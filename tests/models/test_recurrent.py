"""The recurrent model and the perceptron: gradients on NumPy in float64 against torch's."""

from __future__ import annotations

import numpy as np
import pytest
from support.plain_tensor import trained

from weft.models.registry import read_config
from weft.models.training import build_evaluation_plan, build_training_plan
from weft.models.vector_perceptron import build_vector_plan
from weft.plan.reference import ReferenceExecutable

torch = pytest.importorskip("torch")

LSTM = {
    "model_type": "lstm",
    "vocab_size": 23,
    "embedding_size": 5,
    "hidden_size": 6,
    "num_hidden_layers": 2,
}
PERCEPTRON = {
    "model_type": "perceptron",
    "vocab_size": 23,
    "embedding_size": 5,
    "hidden_size": 6,
    "window": 3,
}
LENGTHS = (4, 1, 6)


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def inputs():
    generator, rows = np.random.default_rng(3), sum(LENGTHS)
    firsts = np.cumsum([0, *LENGTHS[:-1]])
    return {
        "tokens": generator.integers(0, 23, (rows, 1)).astype(np.int32),
        "targets": generator.integers(0, 23, (rows, 1)).astype(np.int32),
        "positions": np.zeros((rows, 1), np.int32),
        "loss_weights": generator.random((rows, 1)).astype(np.float32),
        "sequences": np.array(list(zip(firsts, LENGTHS, strict=True)), np.int32),
        "windows": generator.integers(0, 23, (rows, 3)).astype(np.int32),
    }


def weighted_loss(logits, given):
    targets = torch.tensor(given["targets"][:, 0].astype(np.int64))
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return (losses * torch.tensor(given["loss_weights"][:, 0]).double()).sum(), losses


def test_lstm_gradients_equal_those_of_torch():
    config = read_config(LSTM)
    weights = {"embedding": normal(23, 5), "head": normal(23, 6)}
    for layer, width in enumerate((5, 6)):
        weights[f"layers.{layer}.input"] = normal(24, width)
        weights[f"layers.{layer}.recurrent"] = normal(24, 6)
        weights[f"layers.{layer}.input_bias"] = normal(24)
    tensors, given = trained(weights), inputs()
    executable = ReferenceExecutable(build_training_plan(config, tensors, 16), tensors)
    got = executable.run(given)

    exact = {name: torch.tensor(weight).double().requires_grad_() for name, weight in weights.items()}
    flat = []
    for layer in range(2):
        parts = ("input", "recurrent", "input_bias")
        flat += [exact[f"layers.{layer}.{part}"] for part in parts] + [torch.zeros(24).double()]
    embedded = exact["embedding"][given["tokens"][:, 0]]
    outputs = []
    for first, count in given["sequences"].tolist():
        x, zeros = embedded[first : first + count, None], torch.zeros(2, 1, 6).double()
        outputs.append(torch._VF.lstm(x, (zeros, zeros), flat, True, 2, 0.0, False, False, False)[0][:, 0])
    total, losses = weighted_loss(torch.cat(outputs) @ exact["head"].T, given)
    total.backward()
    np.testing.assert_allclose(got["loss"][:, 0], losses.detach(), rtol=1e-10)
    for name, weight in exact.items():
        np.testing.assert_allclose(executable.parameters[f"d_{name}"], weight.grad, rtol=1e-8, atol=1e-10)
    evaluation = build_evaluation_plan(config, tensors, 16)
    np.testing.assert_allclose(ReferenceExecutable(evaluation, tensors).run(given)["loss"], got["loss"])


def test_next_word_predictor_gradients_equal_those_of_torch():
    config = read_config(PERCEPTRON)
    weights = {
        "embedding": normal(23, 5),
        "hidden": normal(6, 15),
        "hidden_bias": normal(6),
        "head": normal(23, 6),
    }
    tensors, given = trained(weights), inputs()
    executable = ReferenceExecutable(build_training_plan(config, tensors, 16), tensors)
    got = executable.run(given)
    exact = {name: torch.tensor(weight).double().requires_grad_() for name, weight in weights.items()}
    x = exact["embedding"][given["windows"]].reshape(-1, 15)
    hidden = torch.tanh(x @ exact["hidden"].T + exact["hidden_bias"])
    total, losses = weighted_loss(hidden @ exact["head"].T, given)
    total.backward()
    np.testing.assert_allclose(got["loss"][:, 0], losses.detach(), rtol=1e-10)
    for name, weight in exact.items():
        np.testing.assert_allclose(executable.parameters[f"d_{name}"], weight.grad, rtol=1e-8, atol=1e-10)


def test_perceptron_on_vectors_equals_torch():
    weights = {
        "hidden": normal(6, 4),
        "hidden_bias": normal(6),
        "output": normal(2, 6),
        "output_bias": normal(2),
    }
    tensors, generator = trained(weights), np.random.default_rng(8)
    given = {"x": generator.normal(size=(9, 4)), "targets": generator.normal(size=(9, 2))}
    given |= {"rows": np.arange(9)[:, None], "loss_weights": np.full((9, 1), 1 / 9)}
    executable = ReferenceExecutable(build_vector_plan(tensors, 4, 2, 9), tensors)
    got = executable.run(given)
    exact = {name: torch.tensor(weight).double().requires_grad_() for name, weight in weights.items()}
    hidden = torch.tanh(torch.tensor(given["x"]) @ exact["hidden"].T + exact["hidden_bias"])
    out = hidden @ exact["output"].T + exact["output_bias"]
    torch.nn.functional.mse_loss(out, torch.tensor(given["targets"])).backward()
    predicted = ReferenceExecutable(build_vector_plan(tensors, 4, 2, 9, "predict"), tensors).run(
        {"x": given["x"]}
    )
    np.testing.assert_allclose(predicted["out"], out.detach(), rtol=1e-10)
    errors = (predicted["out"] - given["targets"]) ** 2
    np.testing.assert_allclose(got["loss"][:, 0], errors.mean(axis=1), rtol=1e-10)
    for name, weight in exact.items():
        np.testing.assert_allclose(executable.parameters[f"d_{name}"], weight.grad, rtol=1e-8, atol=1e-10)
