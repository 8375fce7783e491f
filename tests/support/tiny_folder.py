"""A model folder as Hugging Face lays it out, small and random, that speaks bytes: for commands in tests."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from tests.support.byte_tokenizer import CHAT_TEMPLATE, END, START, byte_tokenizer

WIDTH, FEED_FORWARD, LAYERS, HEADS, VOCABULARY = 32, 48, 2, 2, 258
CONTEXT = 1 << 16  # an answer that fills it can be stopped midway


def write_tiny_folder(folder: Path, *, with_template: bool = True, marks: tuple[str, ...] = ()) -> Path:
    """Writes config.json, model.safetensors, tokenizer.json (and a chat template) to `folder`.

    marks: tokens besides, from VOCABULARY on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = VOCABULARY + len(marks)
    _write_json(folder / "config.json", {**_config(), "vocab_size": size})
    settings = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    if with_template:
        settings["chat_template"] = CHAT_TEMPLATE
    _write_json(folder / "tokenizer_config.json", settings)
    byte_tokenizer(marks=marks).save(folder / "tokenizer.json")
    _write_safetensors(folder / "model.safetensors", _weights(size))
    return folder


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": START,
        "eos_token_id": END,
    }


def _weights(vocabulary: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)

    def matrix(n: int, k: int) -> np.ndarray:
        return random.normal(0.0, k**-0.5, (n, k)).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(vocabulary, WIDTH)}
    for layer in range(LAYERS):
        place = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{place}.self_attn.{name}.weight"] = matrix(WIDTH, WIDTH)
        for name, shape in (
            ("gate_proj", (FEED_FORWARD, WIDTH)),
            ("up_proj", (FEED_FORWARD, WIDTH)),
            ("down_proj", (WIDTH, FEED_FORWARD)),
        ):
            weights[f"{place}.mlp.{name}.weight"] = matrix(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{place}.{name}.weight"] = np.ones(WIDTH, np.float32)
    weights["model.norm.weight"] = np.ones(WIDTH, np.float32)
    return weights


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": tensor.shape,
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    body = b"".join(tensor.tobytes() for tensor in tensors.values())
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content))
