"""Shapes of the tensors that a model's files hold, by their names and the model's sizes."""

from __future__ import annotations

from collections.abc import Iterator

from weft.errors import UnsupportedError
from weft.models.config import ModelConfig, TokenModelConfig
from weft.models.lstm import LstmConfig
from weft.models.perceptron import PerceptronConfig
from weft.models.registry import architecture
from weft.models.weight_spec import WeightSpec


def specs_of(config: TokenModelConfig) -> list[WeightSpec]:
    """Every weight of a model, whether or not there are files of it."""
    return list(architecture(config.architecture).weight_specs(config, {}))


def part_shapes(config: TokenModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor by its Hugging Face name: (n, k) as the model uses it, (n,) for a vector."""
    return {name: part_shape(config, name) for spec in specs_of(config) for name in spec.parts}


def weight_shapes(config: TokenModelConfig) -> Iterator[tuple[WeightSpec, tuple[int, ...]]]:
    """Each weight with its shape: its parts' rows one after another."""
    shapes = part_shapes(config)
    for spec in specs_of(config):
        parts = [shapes[name] for name in spec.parts]
        yield spec, (sum(shape[0] for shape in parts), *parts[0][1:])


def part_shape(config: TokenModelConfig, name: str) -> tuple[int, ...]:
    """Shape of the tensor of that Hugging Face name. Raises UnsupportedError for one it does not know."""
    match config:
        case ModelConfig():
            scope, module, kind = ("." + name).rsplit(".", 3)[-3:]
            rows, columns = _attention_model(config, module, scope)
        case LstmConfig():
            kind = "bias" if ".bias_" in name else "weight"
            rows, columns = _lstm(config, name)
        case PerceptronConfig():
            kind = name.rsplit(".", 1)[-1]
            rows, columns = _perceptron(config, name)
        case _:
            raise _unknown(name)
    return (rows, columns) if columns and kind == "weight" else (rows,)


def _attention_model(config: ModelConfig, module: str, scope: str) -> tuple[int, int]:
    """Outputs and inputs of a linear layer or an embedding; elements and 0 of a norm."""
    wide, hidden = config.features, config.hidden_features
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    match module:
        case "embed_tokens" | "wte" | "lm_head":
            return config.vocabulary_size, wide
        case "wpe":
            return config.max_context, wide
        case "q_proj":
            return q, wide
        case "k_proj" | "v_proj":
            return kv, wide
        case "o_proj":
            return wide, q
        case "gate_proj" | "up_proj" | "c_fc":
            return hidden, wide
        case "down_proj":
            return wide, hidden
        case "c_attn":
            return 3 * wide, wide
        case "c_proj":
            return wide, hidden if scope == "mlp" else wide
        case "q_norm" | "k_norm":
            return config.head_dim, 0
        case "norm" | "input_layernorm" | "post_attention_layernorm" | "ln_1" | "ln_2" | "ln_f":
            return wide, 0
    raise _unknown(module)


def _lstm(config: LstmConfig, name: str) -> tuple[int, int]:
    hidden = config.hidden_features
    match name:
        case "embedding.weight":
            return config.vocabulary_size, config.features
        case "linear.weight":
            return config.vocabulary_size, hidden
        case "lstm.weight_ih_l0":
            return 4 * hidden, config.features
    if name.startswith(("lstm.weight_", "lstm.bias_")):
        return 4 * hidden, hidden
    raise _unknown(name)


def _perceptron(config: PerceptronConfig, name: str) -> tuple[int, int]:
    match name:
        case "embedding.weight":
            return config.vocabulary_size, config.features
        case "hidden.weight" | "hidden.bias":
            return config.hidden_features, config.window * config.features
        case "linear.weight":
            return config.vocabulary_size, config.hidden_features
    raise _unknown(name)


def _unknown(name: str) -> UnsupportedError:
    return UnsupportedError(f"Expected a known tensor, got {name!r}; weft cannot train this model.")
