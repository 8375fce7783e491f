"""Reads the model and tokenizer files of llama2.c (`run.c`, version 0): sizes, then float32 weights."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weft.errors import ModelFileError, TokenizerError
from weft.io.json_file import read_bounded
from weft.io.mapped_file import MappedFile
from weft.io.model_config import normalized_config
from weft.io.row_order import halves_from_pairs
from weft.io.tensor_source import TensorSource
from weft.io.text.tokenizer import SpecialTokens, Tokenizer
from weft.io.text.tokenizer_build import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE_MARK,
    UNKNOWN,
    Vocabulary,
    add_start_and_end,
    build_sentencepiece_bpe,
    tokenizer_errors,
)

HEADER_BYTES = 28
_MAX_TOKENIZER_BYTES = 64 << 20
_UNKNOWN_ID, _BOS_ID, _EOS_ID, _FIRST_BYTE_ID = 0, 1, 2, 3


def read_llama2c(mapping: MappedFile) -> tuple[dict[str, Any], dict[str, TensorSource]]:
    """The configuration (config.json's terms) and the tensors (Hugging Face names). Raises ModelFileError."""
    sizes = struct.unpack("<7i", mapping.bytes_at(0, HEADER_BYTES))
    width, hidden, layers, heads, kv_heads, vocabulary, context = sizes
    if min(width, hidden, layers, heads, kv_heads, abs(vocabulary), context) < 1 or width % (2 * heads):
        raise ModelFileError(f"{mapping.path}: not a llama2.c model: its header says {sizes}")
    config = normalized_config(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "hidden_size": width,
            "intermediate_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": abs(vocabulary),
            "max_position_embeddings": context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": vocabulary > 0,
            "bos_token_id": _BOS_ID,
            # A text of llama2.c's models ends where the next would start.
            "eos_token_id": [_EOS_ID, _BOS_ID],
        },
        str(mapping.path),
    )
    return config, {tensor.name: tensor for tensor in _tensors(mapping, config)}


def llama2c_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer in llama2.c's `tokenizer.bin` at `path`. Raises ModelNotFoundError, TokenizerError."""
    pieces = list(_pieces(read_bounded(path, _MAX_TOKENIZER_BYTES), vocab_size, path))
    tokens = [text.replace(" ", SPACE_MARK) for text, _ in pieces]
    # Files spell these differently (bytes raw or as <0x..>); their ids are fixed by Llama's vocabulary.
    tokens[: _FIRST_BYTE_ID + 256] = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (vocab_size - _FIRST_BYTE_ID - 256)
    vocabulary = Vocabulary(tokens, types, [score for _, score in pieces])
    with tokenizer_errors(str(path)):
        raw = build_sentencepiece_bpe(vocabulary)
        add_start_and_end(raw, _BOS_ID, None)
    return Tokenizer(raw, SpecialTokens(_BOS_ID, (_EOS_ID, _BOS_ID), None))


def _layout(config: dict[str, Any]) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """The file's arrays in order: name ('{}' for the layer), copies (layers), shape."""
    layers, width, hidden = config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    block = "model.layers.{}."
    yield "model.embed_tokens.weight", 1, (config["vocab_size"], width)
    yield block + "input_layernorm.weight", layers, (width,)
    yield block + "self_attn.q_proj.weight", layers, (width, width)
    yield block + "self_attn.k_proj.weight", layers, (kv_width, width)
    yield block + "self_attn.v_proj.weight", layers, (kv_width, width)
    yield block + "self_attn.o_proj.weight", layers, (width, width)
    yield block + "post_attention_layernorm.weight", layers, (width,)
    yield block + "mlp.gate_proj.weight", layers, (hidden, width)
    yield block + "mlp.down_proj.weight", layers, (width, hidden)
    yield block + "mlp.up_proj.weight", layers, (hidden, width)
    yield "model.norm.weight", 1, (width,)
    # Two tables of rotary angles, which the configuration already determines.
    yield "", 1, (config["max_position_embeddings"], config["head_dim"])
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", 1, (config["vocab_size"], width)


def _tensors(mapping: MappedFile, config: dict[str, Any]) -> Iterator[TensorSource]:
    offset = HEADER_BYTES
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for pattern, copies, shape in _layout(config):
        size = 4
        for extent in shape:
            size *= extent
        for layer in range(copies):
            data = mapping.bytes_at(offset, size)
            offset += size
            projection = pattern.split(".")[-2] if pattern else ""
            order = halves_from_pairs(heads[projection], config["head_dim"]) if projection in heads else None
            if pattern:
                yield TensorSource(pattern.format(layer), "F32", shape, data, order)
    if offset != mapping.size:
        raise ModelFileError(
            f"{mapping.path}: its header asks for {offset} bytes, the file has {mapping.size}"
        )


def _pieces(raw: bytes, count: int, path: Path) -> Iterator[tuple[str, float]]:
    position = 4
    if count < _FIRST_BYTE_ID + 256:
        raise TokenizerError(
            f"{path}: a vocabulary of at least {_FIRST_BYTE_ID + 256} tokens was expected, not {count}"
        )
    for number in range(count):
        try:
            score, size = struct.unpack_from("<fi", raw, position)
        except struct.error as error:
            raise TokenizerError(
                f"{path}: {count} tokens were expected, the file ends after {number}"
            ) from error
        start = position + 8
        position = start + size
        if size < 0 or position > len(raw):
            raise TokenizerError(f"{path}: token {number} is {size} bytes long, beyond the end of the file")
        yield raw[start:position].decode("utf-8", "replace"), score
