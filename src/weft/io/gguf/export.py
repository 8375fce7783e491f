"""A model as a GGUF file that llama.cpp loads: names, metadata, tokenizer, and its order of rotary rows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from weft.errors import ConfigError, UnsupportedError
from weft.io.gguf.config import ARCHITECTURES, ROPE_DIVISORS, llama3_divisors
from weft.io.gguf.export_tokenizer import tokenizer_metadata
from weft.io.gguf.names import gguf_name
from weft.io.gguf.writer import GGUF_KINDS, GgufTensor, fitting_kind, write_gguf
from weft.io.hf_writer import TextFiles
from weft.io.row_order import halves_from_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# llama.cpp's numbers of file types, for `general.file_type`.
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}


def export_gguf(
    path: str | os.PathLike[str],
    text: TextFiles,
    tensors: Iterable[tuple[str, NDArray[np.float32]]],
    kind: str,
    name: str,
) -> None:
    """Writes the model of `tensors`, by Hugging Face name, (n, k) as the model uses them, to `path`.

    kind: how matrices are held, one of GGUF_KINDS. Raises ConfigError, UnsupportedError for models and
    tokenizers that GGUF files of llama.cpp do not hold or weft does not write, OSError.
    """
    if kind not in GGUF_KINDS:
        raise ConfigError(f"Expected a kind among {', '.join(GGUF_KINDS)}, got {kind!r}; choose one.")
    settings = text.settings
    architecture = _architecture(settings)
    metadata = {
        "general.architecture": architecture,
        "general.name": name,
        "general.file_type": _FILE_TYPES[kind],
        **_sizes(settings, architecture),
    }
    if text.tokenizer is not None:
        metadata |= tokenizer_metadata(text.tokenizer, settings["vocab_size"])
        if text.chat_template is not None:
            metadata["tokenizer.chat_template"] = text.chat_template
    model_type = settings["model_type"]
    placed = [
        GgufTensor(_placed_name(hf_name, model_type), ordered, fitting_kind(array, kind))
        for hf_name, array in tensors
        for ordered in [_ordered(hf_name, array, settings, architecture)]
    ]
    write_gguf(path, metadata, [*_divisors(settings), *placed])


def _architecture(settings: Mapping[str, Any]) -> str:
    names = settings.get("architectures") or []
    for architecture, described in ARCHITECTURES.items():
        if described.class_name in names:
            return architecture
    raise UnsupportedError(
        f"Expected a model that llama.cpp runs ({', '.join(ARCHITECTURES)}), got {', '.join(names)}; "
        "export it as a Hugging Face folder."
    )


def _sizes(settings: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    own = {
        "context_length": settings["max_position_embeddings"],
        "embedding_length": settings["hidden_size"],
        "block_count": settings["num_hidden_layers"],
        "feed_forward_length": settings["intermediate_size"],
        "attention.head_count": settings["num_attention_heads"],
    }
    if architecture == "gpt2":
        own["attention.layer_norm_epsilon"] = float(settings.get("layer_norm_epsilon", 1e-5))
    else:
        own |= _rotary_sizes(settings)
    own["vocab_size"] = settings["vocab_size"]
    return {f"{architecture}.{key}": value for key, value in own.items()}


def _rotary_sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {
        "attention.head_count_kv": settings["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(settings.get("rms_norm_eps", 1e-6)),
        "attention.key_length": settings["head_dim"],
        "attention.value_length": settings["head_dim"],
        "rope.dimension_count": settings["head_dim"],
        "rope.freq_base": float(settings.get("rope_theta") or 10000.0),
    }
    return sizes | _scaling(settings.get("rope_scaling") or {}, settings)


def _scaling(scaling: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary scaling as metadata; Llama 3's is a tensor of divisors instead, see `_divisors`."""
    kind = scaling.get("rope_type", "default")
    if kind in ("default", "llama3"):
        return {}
    if kind not in ("linear", "yarn"):
        raise UnsupportedError(
            f"Expected no rotary scaling, linear, yarn or llama3, for GGUF, got {kind!r}; export a folder."
        )
    factor = float(scaling["factor"])
    sizes: dict[str, Any] = {"rope.scaling.type": kind, "rope.scaling.factor": factor}
    if kind == "yarn":
        if not scaling.get("truncate", True):
            raise UnsupportedError("Expected yarn with truncate, for GGUF, got it without; export a folder.")
        original = scaling.get("original_max_position_embeddings") or settings["max_position_embeddings"]
        sizes["rope.scaling.original_context_length"] = original
        if (magnitude := _yarn_magnitude(scaling, factor)) is not None:
            # llama.cpp multiplies its own length-dependent factor by this one.
            sizes["rope.scaling.attn_factor"] = magnitude / (0.1 * math.log(max(factor, 1.0)) + 1.0)
        for key in ("beta_fast", "beta_slow"):
            if scaling.get(key) is not None:
                sizes[f"rope.scaling.yarn_{key}"] = float(scaling[key])
    return sizes


def _yarn_magnitude(scaling: Mapping[str, Any], factor: float) -> float | None:
    """The factor on cosine and sine where the settings give one."""
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    scales = [scaling.get(name) for name in ("mscale", "mscale_all_dim")]
    if not all(scales):
        return None
    first, second = (0.1 * float(scale or 0) * math.log(max(factor, 1.0)) + 1.0 for scale in scales)
    return first / second


def _divisors(settings: Mapping[str, Any]) -> list[GgufTensor]:
    """The tensor that holds Llama 3's rotary scaling, where the model has it."""
    scaling = settings.get("rope_scaling") or {}
    if scaling.get("rope_type") != "llama3":
        return []
    import numpy as np

    divisors = llama3_divisors(
        float(settings.get("rope_theta") or 10000.0),
        settings["head_dim"] // 2,
        float(scaling["factor"]),
        int(scaling.get("original_max_position_embeddings") or settings["max_position_embeddings"]),
        float(scaling["low_freq_factor"]),
        float(scaling["high_freq_factor"]),
    )
    return [GgufTensor(ROPE_DIVISORS, np.array(divisors, np.float32), "f32")]


def _placed_name(name: str, model_type: str) -> str:
    placed = gguf_name(name, model_type)
    if placed is None:
        raise UnsupportedError(f"Expected a tensor that GGUF has a name for, got {name!r}; export a folder.")
    return placed


def _ordered(
    name: str, array: NDArray[np.float32], settings: Mapping[str, Any], architecture: str
) -> NDArray[np.float32]:
    """q and k with the rows of a head's pairs side by side, as llama.cpp rotates them."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None or not ARCHITECTURES[architecture].pairs_neighbours:
        return array
    import numpy as np

    ordered = np.empty_like(array)
    ordered[halves_from_pairs(settings[heads], settings["head_dim"])] = array
    return ordered
