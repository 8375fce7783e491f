"""A model's files as one view: GGUF and Hugging Face folders of the same model are the same model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.io.gguf_builder import BOOL, F32, STRING, U32, GgufBuilder, tiny_model
from weft.errors import ModelFileError, ModelNotFoundError, TokenizerError
from weft.io.open_checkpoint import fingerprint, open_checkpoint
from weft.io.safetensors import write_safetensors
from weft.io.tensor_source import TensorSource

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
}


def gguf_at(path: Path, builder: GgufBuilder) -> Path:
    path.write_bytes(builder.build())
    return path


def folder_at(path: Path, config: dict[str, Any], arrays: dict[str, np.ndarray], **files: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    sources = [
        TensorSource(n, "F32", a.shape, memoryview(a.astype(np.float32).tobytes())) for n, a in arrays.items()
    ]
    write_safetensors(path / "model.safetensors", sources)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def llama_cpp_order(weight: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k projections: halves of a head to pairs of neighbours."""
    head_dim = weight.shape[0] // heads
    return weight.reshape(heads, 2, head_dim // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def test_a_gguf_is_a_hugging_face_model(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(gguf_at(tmp_path / "m.gguf", tiny_model()))
    expected = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": 320, "max_position_embeddings": 128,
        "tie_word_embeddings": True, "attention_bias": False, "hidden_act": "silu",
    }  # fmt: skip
    assert {key: checkpoint.config.get(key) for key in expected} == expected
    assert checkpoint.tensors["model.embed_tokens.weight"].shape == (320, 64)
    assert checkpoint.tensors["model.layers.1.mlp.down_proj.weight"].shape == (64, 96)
    assert checkpoint.tensors["model.norm.weight"].kind == "F32"
    assert len(checkpoint.tensors) == 2 * 9 + 2


def test_rows_of_q_and_k_come_back_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=(32, 32)).astype(np.float32)
    bias = rng.normal(size=64).astype(np.float32)
    builder = tiny_model(width=64, layers=0)
    builder.tensor("blk.0.attn_q.weight", "F32", q.shape, llama_cpp_order(q, 4).tobytes())
    builder.tensor("blk.0.attn_q.bias", "F32", bias.shape, llama_cpp_order(bias, 4).tobytes())
    builder.tensor("blk.0.attn_k.weight", "F32", k.shape, llama_cpp_order(k, 2).tobytes())
    builder.metadata = [(n, t, 1 if n == "llama.block_count" else v) for n, t, v in builder.metadata]
    tensors = open_checkpoint(gguf_at(tmp_path / "m.gguf", builder)).tensors
    prefix = "model.layers.0.self_attn"
    np.testing.assert_array_equal(tensors[f"{prefix}.q_proj.weight"].dequantize(), q)
    np.testing.assert_array_equal(tensors[f"{prefix}.q_proj.bias"].dequantize(), bias)
    np.testing.assert_array_equal(tensors[f"{prefix}.k_proj.weight"].dequantize(), k)
    np.testing.assert_array_equal(tensors[f"{prefix}.q_proj.weight"].rows(5, 9).dequantize(), q[5:9])
    assert open_checkpoint(tmp_path / "m.gguf").config["attention_bias"]


def test_other_architectures_keep_their_rows(tmp_path: Path) -> None:
    builder = tiny_model()
    builder.metadata = [
        (name.replace("llama.", "qwen2."), kind, "qwen2" if name == "general.architecture" else value)
        for name, kind, value in builder.metadata
    ]
    checkpoint = open_checkpoint(gguf_at(tmp_path / "m.gguf", builder))
    assert checkpoint.config["architectures"] == ["Qwen2ForCausalLM"]
    assert all(tensor.row_order is None for tensor in checkpoint.tensors.values())


def rope_factors(theta: float, head_dim: int, factor: float, original: int) -> np.ndarray:
    """Llama 3's frequency divisors, as its reference code computes them."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = (original / wavelengths - 1.0) / (4.0 - 1.0)
    middle = 1.0 / ((1 - smooth) / factor + smooth)
    low, high = wavelengths > original / 1.0, wavelengths < original / 4.0
    return np.where(low, factor, np.where(high, 1.0, middle)).astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_rope_factors_become_llama3_scaling(tmp_path: Path, factor: float) -> None:
    builder = tiny_model([("llama.rope.freq_base", F32, 500000.0), ("llama.attention.key_length", U32, 128)])
    factors = rope_factors(500000.0, 128, factor, 8192)
    builder.tensors = [t for t in builder.tensors if "attn_q" not in t[0] and "attn_k" not in t[0]]
    builder.tensor("rope_freqs.weight", "F32", factors.shape, factors.tobytes())
    config = open_checkpoint(gguf_at(tmp_path / "m.gguf", builder)).config
    assert config["rope_scaling"] == {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip


def test_other_rope_scalings(tmp_path: Path) -> None:
    def scaling(*extra: tuple[str, int, Any], factors: np.ndarray | None = None) -> Any:
        builder = tiny_model(extra)
        if factors is not None:
            builder.tensor("rope_freqs.weight", "F32", factors.shape, factors.astype(np.float32).tobytes())
        return open_checkpoint(gguf_at(tmp_path / "m.gguf", builder)).config.get("rope_scaling")

    kind, factor = "llama.rope.scaling.type", "llama.rope.scaling.factor"
    assert scaling() is None
    assert scaling((kind, STRING, "none")) is None
    assert scaling((kind, STRING, "linear"), (factor, F32, 4.0)) == {"rope_type": "linear", "factor": 4.0}
    yarn = scaling(
        (kind, STRING, "yarn"), (factor, F32, 4.0), ("llama.rope.scaling.original_context_length", U32, 32)
    )
    assert yarn == {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    odd = scaling(factors=np.arange(1, 9))
    assert (
        odd["rope_type"] == "longrope"
        and odd["long_factor"] == list(range(1, 9))
        and odd["attention_factor"] == 1.0
    )
    with pytest.raises(ModelFileError, match="rope scaling 'odd'"):
        scaling((kind, STRING, "odd"), (factor, F32, 4.0))
    with pytest.raises(ModelFileError, match="positive numbers"):
        scaling(factors=np.array([1, np.nan]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": (STRING, "mamba")}, "architecture is 'mamba', weft runs llama"),
        ({"general.architecture": (U32, 1)}, "must be text"),
        ({"llama.block_count": None}, "block_count' must be a whole number, nothing is there"),
        ({"llama.block_count": (STRING, "2")}, "must be a whole number"),
        ({"llama.block_count": (U32, 4_000_000_000)}, "num_hidden_layers must be"),
        ({"llama.attention.head_count": (U32, 0)}, "num_attention_heads must be"),
        ({"llama.attention.head_count": (U32, 5)}, "cannot share"),
        ({"llama.attention.head_count": (U32, 8)}, "rows, 2 heads of 8 were expected"),
        ({"llama.attention.key_length": (U32, 15)}, "head_dim 15 is odd"),
        ({"llama.attention.key_length": (U32, 65536), "llama.attention.head_count": (U32, 16384)}, "rows"),
        ({"llama.attention.head_count": (U32, 16), "llama.attention.key_length": (U32, 16)}, "rows"),
        ({"llama.attention.layer_norm_rms_epsilon": (F32, float("nan"))}, "rms_norm_eps must be"),
        ({"llama.expert_count": (U32, 8)}, "mixtures of experts"),
        ({"split.count": (U32, 3)}, "one part of 3"),
        ({"llama.attention.head_count_kv": (BOOL, True)}, "must be a whole number"),
    ],
)
def test_metadata_that_lies_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    builder = tiny_model()
    kept = [entry for entry in builder.metadata if entry[0] not in changes]
    builder.metadata = kept + [(key, *entry) for key, entry in changes.items() if entry is not None]
    with pytest.raises(ModelFileError, match=message):
        open_checkpoint(gguf_at(tmp_path / "m.gguf", builder))


def test_a_folder_is_read(tmp_path: Path) -> None:
    folder = folder_at(
        tmp_path / "m",
        CONFIG | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
        {"embed_tokens.weight": np.ones((16, 8)), "layers.0.self_attn.rotary_emb.inv_freq": np.ones(2)},
        generation_config__json='{"eos_token_id": [2, 3], "temperature": 0.6}',
        tokenizer_config__json='{"chat_template": [{"name": "default", "template": "T"}]}',
    )
    checkpoint = open_checkpoint(folder)
    assert list(checkpoint.tensors) == ["model.embed_tokens.weight"]
    assert checkpoint.config["head_dim"] == 4 and checkpoint.config["num_key_value_heads"] == 2
    assert checkpoint.config["rope_theta"] == 5e5
    assert checkpoint.config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    assert checkpoint.generation_config["temperature"] == 0.6 and checkpoint.chat_template == "T"
    assert open_checkpoint(folder / "model.safetensors").path == folder
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        checkpoint.tokenizer()
    checkpoint.release()


def test_gpt2_layers_are_turned_round(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 4, "n_head": 2,
              "n_layer": 1,
              "n_positions": 8, "vocab_size": 5, "n_inner": None}  # fmt: skip
    joined = np.arange(4 * 12, dtype=np.float32).reshape(4, 12)
    arrays = {
        "wte.weight": np.ones((5, 4)),
        "h.0.attn.c_attn.weight": joined,
        "h.0.attn.bias": np.ones((8, 8)),
    }
    checkpoint = open_checkpoint(folder_at(tmp_path / "m", config, arrays))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "head_dim")
    assert [checkpoint.config[name] for name in names] == [4, 1, 2, 16, 2]
    assert checkpoint.config["max_position_embeddings"] == 8 and checkpoint.config["tie_word_embeddings"]
    tensor = checkpoint.tensors["transformer.h.0.attn.c_attn.weight"]
    assert tensor.transposed and tensor.shape == (12, 4) and len(checkpoint.tensors) == 2
    np.testing.assert_array_equal(tensor.dequantize(), joined.T)
    np.testing.assert_array_equal(
        np.frombuffer(tensor.materialize().data, np.float32).reshape(12, 4), joined.T
    )
    np.testing.assert_array_equal(tensor.rows(4, 8).dequantize(), joined.T[4:8])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG | {"hidden_size": -8}, "hidden_size must be"),
        (CONFIG | {"hidden_size": "8"}, "hidden_size must be"),
        (CONFIG | {"hidden_size": 8.0}, "hidden_size must be"),
        (CONFIG | {"num_attention_heads": 3}, "not a multiple of 3"),
        (CONFIG | {"num_key_value_heads": 3}, "cannot share"),
        (CONFIG | {"rope_theta": "1e4"}, "rope_theta must be"),
        (CONFIG | {"vocab_size": 2**40}, "vocab_size must be"),
        (CONFIG | {"quantization_config": {"quant_method": "gptq"}}, "quantized by 'gptq'"),
    ],
)
def test_a_config_that_lies_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        open_checkpoint(folder_at(tmp_path / "m", config, {}))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(ModelFileError, match="holds no model"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelFileError, match="has no weights"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelFileError, match="runs code"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "pytorch_model.bin").unlink()
    for name in ("a.gguf", "b.gguf"):
        gguf_at(tmp_path / name, tiny_model())
    with pytest.raises(ModelFileError, match=r"several models, name one: a\.gguf, b\.gguf"):
        open_checkpoint(tmp_path)
    (tmp_path / "b.gguf").unlink()
    assert open_checkpoint(tmp_path).path == tmp_path / "a.gguf"


def test_identity_follows_the_file(tmp_path: Path) -> None:
    path = gguf_at(tmp_path / "m.gguf", tiny_model())
    first = fingerprint(path)
    assert first == open_checkpoint(path).identity == fingerprint(tmp_path) and len(first) == 32
    os.utime(path, ns=(1, 1))
    assert fingerprint(path) != first
    os.rename(path, tmp_path / "other.gguf")
    assert fingerprint(tmp_path / "other.gguf") not in (first, None)


def test_a_gguf_without_tokenizer_says_so(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(gguf_at(tmp_path / "m.gguf", tiny_model()))
    with pytest.raises(TokenizerError, match="carries no tokenizer"):
        checkpoint.tokenizer()


def test_a_real_gguf_is_the_model_it_was_made_of(smollm2_file: Path) -> None:
    checkpoint = open_checkpoint(smollm2_file)
    assert checkpoint.config["rope_theta"] == 100000.0 and checkpoint.config["num_key_value_heads"] == 3
    assert checkpoint.eos_ids() == (2, 0) and checkpoint.tokenizer().bos_id == 1
    assert "<|im_start|>" in (checkpoint.chat_template or "")
    query = checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"]
    assert query.kind == "Q4_1" and query.shape == (576, 576) and sorted(query.row_order) == list(range(576))
