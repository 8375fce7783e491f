"""llama2.c's files: a small one made here, and stories15M."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from weft.errors import ModelFileError, ModelNotFoundError, TokenizerError
from weft.io.open_checkpoint import open_checkpoint

WIDTH, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 8, 12, 2, 2, 1, 300, 16


def model_bytes(vocabulary: int = VOCABULARY) -> tuple[bytes, dict[str, np.ndarray]]:
    """A model file of random numbers, and its arrays by llama2.c's names."""
    rng = np.random.default_rng(0)
    kv_width = WIDTH // HEADS * KV_HEADS
    shapes = {
        "embedding": (abs(vocabulary), WIDTH), "rms_att": (LAYERS, WIDTH), "wq": (LAYERS, WIDTH, WIDTH),
        "wk": (LAYERS, kv_width, WIDTH), "wv": (LAYERS, kv_width, WIDTH), "wo": (LAYERS, WIDTH, WIDTH),
        "rms_ffn": (LAYERS, WIDTH), "w1": (LAYERS, HIDDEN, WIDTH), "w2": (LAYERS, WIDTH, HIDDEN),
        "w3": (LAYERS, HIDDEN, WIDTH), "rms_final": (WIDTH,), "rope": (2, CONTEXT, WIDTH // HEADS // 2),
    }  # fmt: skip
    if vocabulary < 0:
        shapes["head"] = (-vocabulary, WIDTH)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    header = struct.pack("<7i", WIDTH, HIDDEN, LAYERS, HEADS, KV_HEADS, vocabulary, CONTEXT)
    return header + b"".join(array.tobytes() for array in arrays.values()), arrays


def tokenizer_bytes(count: int = VOCABULARY) -> bytes:
    texts = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256)), b" ", b"a",
             b"b", b"ab",
             b" ab"]  # fmt: skip
    texts += [b"piece%d" % number for number in range(count - len(texts))]
    pieces = [struct.pack("<fi", -float(number), len(text)) + text for number, text in enumerate(texts)]
    return struct.pack("<i", 27) + b"".join(pieces)


def test_arrays_have_hugging_face_names(tmp_path: Path) -> None:
    data, arrays = model_bytes()
    (tmp_path / "m.bin").write_bytes(data)
    (tmp_path / "tokenizer.bin").write_bytes(tokenizer_bytes())
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config["tie_word_embeddings"] and checkpoint.config["head_dim"] == 4
    read = {name: tensor.dequantize() for name, tensor in checkpoint.tensors.items()}
    np.testing.assert_array_equal(read["model.embed_tokens.weight"], arrays["embedding"])
    block = "model.layers.1"
    for name, array in (
        ("self_attn.v_proj", arrays["wv"]),
        ("self_attn.o_proj", arrays["wo"]),
        ("mlp.gate_proj", arrays["w1"]),
        ("mlp.down_proj", arrays["w2"]),
        ("mlp.up_proj", arrays["w3"]),
        ("input_layernorm", arrays["rms_att"]),
        ("post_attention_layernorm", arrays["rms_ffn"]),
    ):
        np.testing.assert_array_equal(read[f"{block}.{name}.weight"], array[1])
    # Neighbours 0, 1 of the file are rows 0 and head_dim / 2 of a head in the model.
    np.testing.assert_array_equal(read[f"{block}.self_attn.q_proj.weight"][[0, 2, 1, 3]], arrays["wq"][1][:4])
    np.testing.assert_array_equal(read[f"{block}.self_attn.k_proj.weight"][[0, 2, 1, 3]], arrays["wk"][1])
    np.testing.assert_array_equal(read["model.norm.weight"], arrays["rms_final"])
    tokenizer = checkpoint.tokenizer()
    assert tokenizer.encode("ab") == [1, 263] and tokenizer.decode([1, 263]) == "ab"
    assert tokenizer.decode(tokenizer.encode("ab é\n")) == "ab é\n"


def test_an_untied_head_is_read(tmp_path: Path) -> None:
    data, arrays = model_bytes(-VOCABULARY)
    (tmp_path / "m.bin").write_bytes(data)
    checkpoint = open_checkpoint(tmp_path / "m.bin")
    assert not checkpoint.config["tie_word_embeddings"]
    np.testing.assert_array_equal(checkpoint.tensors["lm_head.weight"].dequantize(), arrays["head"])
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.bin"):
        checkpoint.tokenizer()


@pytest.mark.parametrize("change", ["short", "long", "negative", "huge", "nothing"])
def test_lies_are_refused(tmp_path: Path, change: str) -> None:
    data, _ = model_bytes()
    data = {
        "short": data[:-4],
        "long": data + bytes(4),
        "negative": struct.pack("<i", -8) + data[4:],
        "huge": struct.pack("<7i", *[2**31 - 2] * 3, 1, 1, *[2**31 - 1] * 2) + data[28:],
        "nothing": data[:20],
    }[change]
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(ModelFileError):
        open_checkpoint(tmp_path / "m.bin")


@pytest.mark.parametrize("cut", [3, 100, 2000])
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, cut: int) -> None:
    data, _ = model_bytes()
    (tmp_path / "m.bin").write_bytes(data)
    (tmp_path / "tokenizer.bin").write_bytes(tokenizer_bytes()[:cut])
    with pytest.raises(TokenizerError):
        open_checkpoint(tmp_path).tokenizer()


def test_stories(stories_file: Path) -> None:
    checkpoint = open_checkpoint(stories_file)
    assert checkpoint.config["hidden_size"] == 288 and checkpoint.config["num_hidden_layers"] == 6
    tokenizer = checkpoint.tokenizer()
    assert tokenizer.encode("Once upon a time") == [1, 9038, 2501, 263, 931]
    assert tokenizer.decode([1, 9038, 2501, 263, 931]) == "Once upon a time"
