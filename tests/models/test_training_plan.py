"""Gradients of whole models, as plans on NumPy in float64, against torch's own in float64."""

from __future__ import annotations

import numpy as np
import pytest
from support import tiny_models
from support.plain_tensor import trained
from support.plain_weight import PlainWeight, plain_model, sources_of

from weft.models.adapter import AdapterSettings
from weft.models.registry import architecture
from weft.models.training import LossSettings, build_evaluation_plan, build_training_plan
from weft.plan.reference import ReferenceExecutable

torch = pytest.importorskip("torch")

DOCUMENTS = (9, 1, 14)


def slice_inputs():
    generator = np.random.default_rng(2)
    rows = sum(DOCUMENTS)
    firsts = np.cumsum([0, *DOCUMENTS[:-1]])
    column = lambda values: np.asarray(values, np.int32).reshape(-1, 1)  # noqa: E731
    return {
        "tokens": column(generator.integers(0, 101, rows)),
        "targets": column(generator.integers(0, 101, rows)),
        "positions": column(np.concatenate([np.arange(count) for count in DOCUMENTS])),
        "loss_weights": generator.choice([0.0, 0.1, 0.05], (rows, 1)).astype(np.float32),
        "sequences": np.array(list(zip(firsts, DOCUMENTS, strict=True)), np.int32),
    }


def torch_losses(model, inputs, settings):
    """Losses of all rows [rows], from one forward pass for each document."""
    losses = []
    for first, count in inputs["sequences"].tolist():
        rows = slice(first, first + count)
        tokens = torch.tensor(inputs["tokens"][rows].T.astype(np.int64))
        targets = torch.tensor(inputs["targets"][rows, 0].astype(np.int64))
        logits = model(tokens).logits[0]
        smoothed = torch.nn.functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=settings.label_smoothing
        )
        losses.append(smoothed + settings.z_loss * torch.logsumexp(logits, dim=1) ** 2)
    return torch.cat(losses)


def torch_gradients(model, config):
    """Gradients by weft name, joined as the model's weights are."""
    for parameter in model.parameters():
        parameter.data = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    model.tie_weights()
    sources = sources_of(model)
    return {
        spec.name: np.concatenate([sources[part].dequantize() for part in spec.parts])
        for spec in architecture(config.architecture).weight_specs(config, {})
    }


@pytest.mark.parametrize("name", [n for n in tiny_models.MODELS if "rope" not in n and "yarn" not in n])
@pytest.mark.parametrize(
    ("recompute_layers", "settings"),
    [(False, LossSettings()), (True, LossSettings(label_smoothing=0.1, z_loss=1e-2))],
)
def test_gradients_equal_those_of_torch(name, recompute_layers, settings):
    model = tiny_models.make(name)
    config, weights = plain_model(model)
    inputs = slice_inputs()
    tensors = trained(weights)
    plan = build_training_plan(config, tensors, sum(DOCUMENTS), settings, recompute_layers=recompute_layers)
    executable = ReferenceExecutable(plan, tensors)
    got = executable.run(inputs)

    losses = torch_losses(model.double(), inputs, settings)
    (losses * torch.tensor(inputs["loss_weights"][:, 0]).double()).sum().backward()
    np.testing.assert_allclose(got["loss"][:, 0], losses.detach().numpy(), rtol=1e-5)
    for weight, expected in torch_gradients(model, config).items():
        gradient = executable.parameters[f"d_{weight}"]
        atol = 2e-5 * max(np.abs(expected).max(), 1e-6)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol, err_msg=weight)

    evaluation = build_evaluation_plan(config, tensors, sum(DOCUMENTS), settings)
    np.testing.assert_allclose(ReferenceExecutable(evaluation, tensors).run(inputs)["loss"], got["loss"])


def test_recomputing_layers_takes_less_memory():
    config, weights = plain_model(tiny_models.make("llama"))
    plans = [
        build_training_plan(config, trained(weights), 512, recompute_layers=again) for again in (False, True)
    ]
    assert plans[1].peak_bytes < 0.7 * plans[0].peak_bytes


def adapted_parts(config):
    wide, q, kv = config.features, config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "layers.0.q_proj": (q, wide),
        "layers.0.v_proj": (kv, wide),
        "layers.0.up_proj": (config.hidden_features, wide),
        "layers.1.o_proj": (wide, q),
        "layers.1.down_proj": (wide, config.hidden_features),
    }


def merged_rows(config, part):
    """The weight that holds `part`, and the part's rows in it."""
    name, q = part.rsplit(".", 1)[-1], config.heads * config.head_dim
    kv, hidden = config.kv_heads * config.head_dim, config.hidden_features
    places = {
        "q_proj": ("qkv", 0, q),
        "v_proj": ("qkv", q + kv, q + 2 * kv),
        "up_proj": ("gate_up", hidden, 2 * hidden),
        "o_proj": ("attention_out", 0, None),
        "down_proj": ("down", 0, None),
    }
    weight, first, end = places[name]
    return part.replace(name, weight), slice(first, end)


def test_gradients_of_adapters_are_those_of_the_merged_weights():
    config, weights = plain_model(tiny_models.make("llama"))
    frozen = {
        name: PlainWeight(weight.content) if isinstance(weight, PlainWeight) else weight
        for name, weight in weights.items()
    }
    generator, settings = np.random.default_rng(1), AdapterSettings(rank=3, alpha=6.0)
    factors = {}
    for part, (n, k) in adapted_parts(config).items():
        factors[f"{part}.lora_a"] = generator.normal(size=(3, k)).astype(np.float32) / 10
        factors[f"{part}.lora_b"] = generator.normal(size=(n, 3)).astype(np.float32) / 10
    adapters = trained(factors)
    rows = sum(DOCUMENTS)
    plan = build_training_plan(config, {**frozen, **adapters}, rows, adapter=settings)
    executable = ReferenceExecutable(plan, {**frozen, **adapters})
    got = executable.run(slice_inputs())

    merged = trained(weights)
    for part in adapted_parts(config):
        name, part_rows = merged_rows(config, part)
        content = merged[name].content = merged[name].content.copy()
        content[part_rows] += 2 * factors[f"{part}.lora_b"] @ factors[f"{part}.lora_a"]
    full = ReferenceExecutable(build_training_plan(config, merged, rows), merged)
    np.testing.assert_allclose(got["loss"], full.run(slice_inputs())["loss"], rtol=1e-5)
    for part in adapted_parts(config):
        name, part_rows = merged_rows(config, part)
        d_weight = full.parameters[f"d_{name}"][part_rows]
        for factor, expected in (
            ("lora_a", 2 * factors[f"{part}.lora_b"].T @ d_weight),
            ("lora_b", 2 * d_weight @ factors[f"{part}.lora_a"].T),
        ):
            gradient = executable.parameters[f"d_{part}.{factor}"]
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
