from __future__ import annotations

import json

import numpy as np
import pytest
from support import tiny_models
from support.byte_tokenizer import CHAT_TEMPLATE
from support.tiny_folders import END, VOCABULARY, tokenizer_json

from weft.errors import ConfigError, UnsupportedError
from weft.io.gguf.blocks import dequantize
from weft.io.gguf.export import export_gguf
from weft.io.gguf.export_tokenizer import tokenizer_metadata
from weft.io.gguf.writer import GgufTensor, encode, write_gguf
from weft.io.hf_writer import TextFiles
from weft.io.open_checkpoint import open_checkpoint
from weft.io.text.tokenizer import SpecialTokens, Tokenizer
from weft.io.text.tokenizer_build import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    Vocabulary,
    add_start_and_end,
    build_sentencepiece_bpe,
)
from weft.models.registry import read_config
from weft.models.rope import rotary_frequencies


def folder_of(tmp_path, name, **settings):
    model = tiny_models.make(name, vocab_size=VOCABULARY, **settings)
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "tokenizer.json").write_text(tokenizer_json())
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    return open_checkpoint(tmp_path / "base")


def export(checkpoint, path, kind="f32"):
    files = TextFiles(checkpoint.config, checkpoint.tokenizer(), CHAT_TEMPLATE)
    tensors = [(name, tensor.dequantize()) for name, tensor in checkpoint.tensors.items()]
    export_gguf(path, files, tensors, kind, "tiny")


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "llama tied",
        "llama linear rope",
        "llama 3 rope",
        "llama yarn rope",
        "qwen2",
        "qwen2 yarn",
        "qwen3",
        "gpt2",
    ],
)
def test_a_model_survives_its_gguf_file(tmp_path, name):
    before = folder_of(tmp_path, name)
    export(before, tmp_path / "model.gguf")
    after = open_checkpoint(tmp_path / "model.gguf")
    tensors = {key: tensor.dequantize() for key, tensor in after.tensors.items()}
    assert tensors.keys() == before.tensors.keys()
    for key, tensor in before.tensors.items():
        assert np.array_equal(tensors[key], tensor.dequantize()), key
    shared = ("hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings", "head_dim")
    shared += (
        "intermediate_size",
        "num_key_value_heads",
        "rope_theta",
        "tie_word_embeddings",
    )
    for key in shared:
        assert after.config.get(key) == before.config.get(key), key
    if name != "gpt2":
        ours, theirs = (rotary_frequencies(read_config(c.config).rope, 200) for c in (before, after))
        np.testing.assert_allclose(theirs.inv_freq, ours.inv_freq, rtol=2e-6)
        assert theirs.attention_scale == pytest.approx(ours.attention_scale, rel=1e-6)
    assert after.chat_template == CHAT_TEMPLATE
    if name == "gpt2":  # others may spell the same rotary settings otherwise
        assert read_config(after.config) == read_config(before.config)
    text = "Words, 12 the loom and naïve 字"
    ours, theirs = before.tokenizer(), after.tokenizer()
    assert theirs.encode(text) == ours.encode(text) and theirs.special.eos_id == ours.special.eos_id


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_the_gguf_package_reads_it(tmp_path, kind):
    gguf = pytest.importorskip("gguf")
    checkpoint = folder_of(tmp_path, "llama", hidden_size=64, intermediate_size=96)
    export(checkpoint, tmp_path / "model.gguf", kind)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert reader.get_field("general.architecture").contents() == "llama"
    assert len(reader.get_field("tokenizer.ggml.tokens").contents()) == VOCABULARY
    names = {tensor.name: tensor for tensor in reader.tensors}
    expected = checkpoint.tensors["model.layers.1.mlp.down_proj.weight"].dequantize()
    theirs = names["blk.1.ffn_down.weight"]
    values = gguf.quants.dequantize(theirs.data, theirs.tensor_type)
    error = {"f32": 0, "f16": 1e-3, "bf16": 8e-3, "q8_0": 8e-3}[kind]
    np.testing.assert_allclose(values, expected, atol=error * np.abs(expected).max())
    assert names["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_encoded_tensors_are_what_the_package_makes(kind):
    gguf = pytest.importorskip("gguf")
    array = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    array[0] = 0
    ours = bytes(encode(GgufTensor("x", array, kind)))
    theirs = gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind.upper()])
    if kind == "q8_0":
        difference = dequantize("Q8_0", memoryview(ours)) - dequantize("Q8_0", memoryview(theirs.tobytes()))
        assert np.abs(difference).max() < 1e-6
    else:
        assert ours == theirs.tobytes()


def test_llama_cpp_loads_it(tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    checkpoint = folder_of(tmp_path, "llama")
    export(checkpoint, tmp_path / "model.gguf")
    model = llama_cpp.Llama(str(tmp_path / "model.gguf"), logits_all=True, verbose=False, n_ctx=64)
    model.eval([5, 80, 3])
    expected = tiny_models.logits(tiny_models.make("llama", vocab_size=VOCABULARY), [5, 80, 3])
    np.testing.assert_allclose(np.array(model.scores[:3]), expected, atol=0.05)


def test_what_gguf_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"general\.odd"):
        write_gguf(tmp_path / "x.gguf", {"general.odd": None}, [])
    with pytest.raises(ConfigError, match="f32, f16"):
        export_gguf(tmp_path / "x.gguf", TextFiles({}), [], "q3", "x")
    with pytest.raises(UnsupportedError, match="Hugging Face folder"):
        export_gguf(tmp_path / "x.gguf", TextFiles({"architectures": ["Lstm"]}), [], "f16", "x")
    with pytest.raises(UnsupportedError, match="got 'longrope'"):
        export(folder_of(tmp_path, "llama longrope"), tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_tokenizer_survives(prefix):
    pieces = ["▁", "a", "b", "n", "o", "▁a", "an", "no", "▁an", "ano", "ban", "▁ban"]
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)]
    scores = [0.0] * 259 + [-float(n) for n in range(len(pieces))]
    raw = build_sentencepiece_bpe(Vocabulary(texts, types, scores), prefix)
    add_start_and_end(raw, 1, None)
    before = Tokenizer(raw, SpecialTokens(1, (2,), None))
    metadata = tokenizer_metadata(before, len(texts) + 3)
    assert metadata["tokenizer.ggml.model"] == "llama"
    assert metadata["tokenizer.ggml.add_space_prefix"] is prefix
    assert metadata["tokenizer.ggml.add_bos_token"] is True
    found = Vocabulary(*(metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "scores")))
    assert list(found.types[: len(texts)]) == types
    after = build_sentencepiece_bpe(found, prefix)
    generator = np.random.default_rng(1)
    for length in range(1, 60):
        text = "".join(generator.choice(list("abno  é字"), length))
        assert after.encode(text).ids == raw.encode(text, add_special_tokens=False).ids, text
