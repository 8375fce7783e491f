"""A GGUF file's metadata in the terms of Hugging Face's config.json.

Key names: ggml's `docs/gguf.md` and llama.cpp's `gguf-py/gguf/constants.py`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from weft.errors import ModelFileError
from weft.io.gguf.reader import GgufFile
from weft.io.messages import shown
from weft.io.model_config import normalized_config


@dataclass(frozen=True)
class GgufArchitecture:
    """What `general.architecture` stands for. `pairs_neighbours`: q and k rows are in llama.cpp's order."""

    model_type: str
    class_name: str
    pairs_neighbours: bool = False


ROPE_DIVISORS = "rope_freqs.weight"  # of Llama 3's rotary scaling
ARCHITECTURES = {
    "llama": GgufArchitecture("llama", "LlamaForCausalLM", pairs_neighbours=True),
    "qwen2": GgufArchitecture("qwen2", "Qwen2ForCausalLM"),
    "qwen3": GgufArchitecture("qwen3", "Qwen3ForCausalLM"),
    "gpt2": GgufArchitecture("gpt2", "GPT2LMHeadModel"),
}


def architecture_of(file: GgufFile) -> GgufArchitecture:
    """The file's architecture. Raises ModelFileError for one that weft does not run."""
    name = file.text("general.architecture")
    if name not in ARCHITECTURES:
        raise ModelFileError(
            f"{file.name}: the architecture is {shown(name)}, weft runs {', '.join(ARCHITECTURES)}: "
            "choose another model"
        )
    if file.integer(f"{name}.expert_count", 0) > 0:
        raise ModelFileError(f"{file.name}: mixtures of experts are not supported: take a dense model")
    if file.integer("split.count", 1) > 1:
        raise ModelFileError(
            f"{file.name} is one part of {file.integer('split.count')}: join them by llama-gguf-split --merge"
        )
    return ARCHITECTURES[name]


def config_from_gguf(file: GgufFile) -> dict[str, Any]:
    """The configuration of the model in `file`. Raises ModelFileError."""
    architecture = architecture_of(file)
    prefix = file.text("general.architecture")
    hidden = file.integer(f"{prefix}.embedding_length")
    config: dict[str, Any] = {
        "model_type": architecture.model_type,
        "architectures": [architecture.class_name],
        "hidden_size": hidden,
        "intermediate_size": file.integer(f"{prefix}.feed_forward_length"),
        "num_hidden_layers": file.integer(f"{prefix}.block_count"),
        "num_attention_heads": file.integer(f"{prefix}.attention.head_count"),
        "max_position_embeddings": file.integer(f"{prefix}.context_length"),
        "vocab_size": _vocab_size(file),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    config |= _gpt2_part(file, prefix) if architecture.model_type == "gpt2" else _llama_part(file, prefix)
    for key in ("bos", "eos"):
        if f"tokenizer.ggml.{key}_token_id" in file.metadata:
            config[f"{key}_token_id"] = file.integer(f"tokenizer.ggml.{key}_token_id")
    return normalized_config(config, file.name)


def _llama_part(file: GgufFile, prefix: str) -> dict[str, Any]:
    heads = file.integer(f"{prefix}.attention.head_count")
    part: dict[str, Any] = {
        "hidden_act": "silu",
        "num_key_value_heads": file.integer(f"{prefix}.attention.head_count_kv", heads),
        "rms_norm_eps": _shortest(file.number(f"{prefix}.attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(file.number(f"{prefix}.rope.freq_base", 10000.0)),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
    }
    for key in ("attention.key_length", "rope.dimension_count"):
        if f"{prefix}.{key}" in file.metadata:
            part.setdefault("head_dim", file.integer(f"{prefix}.{key}"))
    if f"{prefix}.attention.sliding_window" in file.metadata:
        part["sliding_window"] = file.integer(f"{prefix}.attention.sliding_window") or None
        part["use_sliding_window"] = part["sliding_window"] is not None
    scaling = _rope_scaling(file, prefix)
    return part | ({"rope_scaling": scaling} if scaling else {})


def _gpt2_part(file: GgufFile, prefix: str) -> dict[str, Any]:
    return {
        "activation_function": "gelu_new",
        "layer_norm_epsilon": _shortest(file.number(f"{prefix}.attention.layer_norm_epsilon", 1e-5)),
    }


def _vocab_size(file: GgufFile) -> int:
    # The embedding's rows are the truth; vocab_size in metadata is optional and has been wrong in files.
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFileError(
            f"{file.name}: a matrix token_embd.weight was expected, there is none: not a whole model"
        )
    return embedding.shape[0]


def _rope_scaling(file: GgufFile, prefix: str) -> dict[str, Any] | None:
    if ROPE_DIVISORS in file.tensors:
        return _scaling_by_factors(file, prefix)
    kind = file.text(f"{prefix}.rope.scaling.type", "none")
    factor = file.number(f"{prefix}.rope.scaling.factor", 1.0)
    if kind in ("none", "") or factor == 1.0:
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": _shortest(factor)}
    if kind == "yarn":
        return _yarn(file, prefix, factor)
    raise ModelFileError(f"{file.name}: rope scaling {shown(kind)} is not known; none, linear and yarn are")


def _yarn(file: GgufFile, prefix: str, factor: float) -> dict[str, Any]:
    scaling: dict[str, Any] = {"rope_type": "yarn", "factor": _shortest(factor)}
    original = f"{prefix}.rope.scaling.original_context_length"
    if original in file.metadata:
        scaling["original_max_position_embeddings"] = file.integer(original)
    if f"{prefix}.rope.scaling.attn_factor" in file.metadata:
        # llama.cpp multiplies its own length-dependent factor by this one; Hugging Face's replaces it.
        own = file.number(f"{prefix}.rope.scaling.attn_factor")
        scaling["attention_factor"] = own * (0.1 * math.log(max(factor, 1.0)) + 1.0)
    for key in ("beta_fast", "beta_slow"):
        if f"{prefix}.rope.scaling.yarn_{key}" in file.metadata:
            scaling[key] = file.number(f"{prefix}.rope.scaling.yarn_{key}")
    return scaling


def _scaling_by_factors(file: GgufFile, prefix: str) -> dict[str, Any]:
    """Llama 3's scaling, which files carry as one divisor a frequency instead of its four parameters."""
    divisors = [float(value) for value in file.tensors[ROPE_DIVISORS].dequantize()]
    if not all(math.isfinite(value) and value > 0 for value in divisors):
        raise ModelFileError(f"{file.name}: {ROPE_DIVISORS} must hold positive numbers")
    theta = file.number(f"{prefix}.rope.freq_base", 10000.0)
    for original in (8192, 4096, 2048, 16384, 32768):
        expected = llama3_divisors(theta, len(divisors), max(divisors), original)
        if all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(divisors, expected, strict=True)):
            return {
                "rope_type": "llama3",
                "factor": _shortest(max(divisors)),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }
    # The same division, spelled as the scaling that lists its divisors.
    return {
        "rope_type": "longrope",
        "short_factor": divisors,
        "long_factor": divisors,
        "attention_factor": 1.0,
        "original_max_position_embeddings": file.integer(f"{prefix}.context_length"),
    }


def llama3_divisors(
    theta: float, count: int, factor: float, original: int, low: float = 1.0, high: float = 4.0
) -> list[float]:
    """What Llama 3's scaling divides each of `count` frequencies by."""
    divisors = []
    for index in range(count):
        wavelength = 2 * math.pi * theta ** (index / count)
        smooth = min(max((original / wavelength - low) / (high - low), 0.0), 1.0)
        divisors.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return divisors


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05 for what the file stores as 9.99999974e-06."""
    stored = struct.pack("<f", value) if abs(value) < 3.4e38 else b""
    for digits in range(1, 9):
        rounded = float(f"{value:.{digits}g}")
        if stored and abs(rounded) < 3.4e38 and struct.pack("<f", rounded) == stored:
            return rounded
    return value
