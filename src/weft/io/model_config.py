"""A model's configuration in the terms of Hugging Face's config.json, checked and with aliases resolved."""

from __future__ import annotations

import math
from typing import Any

from weft.errors import ModelFileError
from weft.io.messages import shown

_MOST = 1 << 31
_REPAIR = "take the model's own configuration"
# Sizes that shapes and memory depend on -> the largest value that is not a lie.
_COUNTS = {
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 22,
    "num_hidden_layers": 4096,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 16,
    "vocab_size": 1 << 24,
    "max_position_embeddings": _MOST,
}
_NUMBERS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "rope_theta")
# GPT-2 names its sizes differently; both names are kept.
_GPT2_ALIASES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}


def normalized_config(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """`raw` with every alias under its common name and what it implies filled in; `name` is for messages.

    Filled in: num_key_value_heads and head_dim, rope_theta and rope_scaling from rope_parameters, rope_type
    from type, GPT-2's sizes, tie_word_embeddings. Raises ModelFileError for a value that cannot be true.
    """
    config = dict(raw)
    if "quantization_config" in config:
        method = config["quantization_config"]
        method = method.get("quant_method", "unknown") if isinstance(method, dict) else method
        raise ModelFileError(
            f"{name}: weights quantized by {shown(method)} are not read: take the plain model or a GGUF"
        )
    for alias, common in _GPT2_ALIASES.items():
        if alias in config:
            config.setdefault(common, config[alias])
    if config.get("model_type") == "gpt2":
        # A GGUF file has the common names alone.
        for alias, common in _GPT2_ALIASES.items():
            if common in config:
                config.setdefault(alias, config[common])
    if config.get("model_type") == "gpt2" and "hidden_size" in config:
        config.setdefault("intermediate_size", config.get("n_inner") or _four_times(config["hidden_size"]))
        config.setdefault("tie_word_embeddings", True)
    _resolve_rope(config)
    _check(config, name)
    _fill_heads(config, name)
    return config


def _four_times(value: object) -> object:
    return 4 * value if isinstance(value, int) else value


def _resolve_rope(config: dict[str, Any]) -> None:
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict) and "rope_theta" in parameters:
        config.setdefault("rope_theta", parameters["rope_theta"])
        if parameters.get("rope_type", "default") != "default":
            config.setdefault("rope_scaling", {k: v for k, v in parameters.items() if k != "rope_theta"})
    scaling = config.get("rope_scaling")
    if isinstance(scaling, dict):
        scaling = dict(scaling)
        scaling.setdefault("rope_type", scaling.get("type", "default"))
        config["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling


def _check(config: dict[str, Any], name: str) -> None:
    for key, most in _COUNTS.items():
        value = config.get(key)
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            raise ModelFileError(
                f"{name}: {key} must be a whole number from 1 to {most}, it is {shown(value)}: {_REPAIR}"
            )
    for key in _NUMBERS:
        value = config.get(key)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value) or value < 0):
            raise ModelFileError(f"{name}: {key} must be a positive number, it is {shown(value)}: {_REPAIR}")


def _fill_heads(config: dict[str, Any], name: str) -> None:
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    if heads is None or width is None:
        return
    kv_heads = config.get("num_key_value_heads") or heads
    config["num_key_value_heads"] = kv_heads
    if heads % kv_heads:
        raise ModelFileError(
            f"{name}: {heads} attention heads cannot share {kv_heads} key/value heads evenly: {_REPAIR}"
        )
    if config.get("head_dim") is None:
        if width % heads:
            raise ModelFileError(
                f"{name}: hidden_size {width} is not a multiple of {heads} attention heads: {_REPAIR}"
            )
        config["head_dim"] = width // heads
    if config["head_dim"] % 2 and config.get("model_type") != "gpt2":
        raise ModelFileError(
            f"{name}: head_dim {config['head_dim']} is odd, rotary positions need pairs: {_REPAIR}"
        )
