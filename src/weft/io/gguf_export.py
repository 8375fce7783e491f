"""A model as a GGUF file that llama.cpp loads: names, metadata, tokenizer, and its order of rotary rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from weft.errors import ConfigError, UnsupportedError
from weft.io.gguf_config import ARCHITECTURES
from weft.io.gguf_names import gguf_name
from weft.io.gguf_writer import GGUF_KINDS, GgufTensor, fitting_kind, write_gguf
from weft.io.hf_writer import TextFiles
from weft.io.pre_tokenizers import name_of_pre_tokenizer
from weft.io.row_order import halves_from_pairs
from weft.io.tokenizer import Tokenizer
from weft.io.tokenizer_build import CONTROL, NORMAL, UNUSED, USER_DEFINED

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
        metadata |= _tokenizer(text.tokenizer, settings["vocab_size"])
        if text.chat_template is not None:
            metadata["tokenizer.chat_template"] = text.chat_template
    model_type = settings["model_type"]
    placed = [
        GgufTensor(_placed_name(hf_name, model_type), ordered, fitting_kind(array, kind))
        for hf_name, array in tensors
        for ordered in [_ordered(hf_name, array, settings, architecture)]
    ]
    write_gguf(path, metadata, placed)


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
    scaling = settings.get("rope_scaling")
    if scaling:
        kind = scaling.get("rope_type")
        if kind != "linear":
            raise UnsupportedError(
                f"Expected no rotary scaling, or linear, for GGUF, got {kind!r}; export a folder."
            )
        sizes |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}
    return sizes


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


def _tokenizer(tokenizer: Tokenizer, vocabulary_size: int) -> dict[str, Any]:
    described = json.loads(tokenizer.to_json())
    model = described["model"]
    pre = name_of_pre_tokenizer(described["pre_tokenizer"], bool(model.get("ignore_merges")))
    if model.get("type") != "BPE" or pre is None:
        raise UnsupportedError(
            "Expected a byte-level BPE tokenizer of a kind that llama.cpp knows, got another; export the "
            "model as a Hugging Face folder."
        )
    size = max(vocabulary_size, tokenizer.vocab_size)
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in described["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    special = tokenizer.special
    named = {"bos": special.bos_id, "eos": special.eos_id, "padding": special.pad_id}
    with_marks = tokenizer.encode("a")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        **({"tokenizer.ggml.merges": merges} if merges else {}),
        **{f"tokenizer.ggml.{key}_token_id": value for key, value in named.items() if value is not None},
        "tokenizer.ggml.add_bos_token": bool(with_marks) and with_marks[0] == special.bos_id,
        "tokenizer.ggml.add_eos_token": bool(with_marks) and with_marks[-1] in special.eos_ids,
    }
