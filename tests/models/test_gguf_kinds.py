"""A model of each GGUF kind against transformers in float32 on the numbers that its blocks stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_encode import decode, encode
from support.native_plans import rounds_rows
from support.tiny_folders import END_ID, VOCABULARY, tokenizer_json

import weft
from tests.io.gguf_builder import ARRAY, F32, I32, STRING, U32, ArrayOf, GgufBuilder
from weft.types import Array

pytest.importorskip("gguf", reason="the gguf package is missing; it is the oracle of blocks")

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
FEATURES, HEADS, KV_HEADS, HIDDEN, LAYERS = 256, 4, 2, 512, 2
# Largest and mean difference of a log-probability, as shares of their spread. Float products leave float32's
# rounding; block kinds round activations to 8 bits, which leaves the same whatever the kind; products of
# pairs of bfloat16 round them to bfloat16.
EXACT, PAIRS, ROUNDED = (2e-5, 1e-5), (0.04, 0.008), (0.15, 0.03)


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(tmp_path / "home"))
        yield


def matrices() -> dict[str, tuple[int, int]]:
    """GGUF name to [rows, K] of each matrix."""
    kv = KV_HEADS * FEATURES // HEADS
    shapes = {"token_embd": (VOCABULARY, FEATURES), "output": (VOCABULARY, FEATURES)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_q": (FEATURES, FEATURES),
            f"blk.{layer}.attn_k": (kv, FEATURES),
            f"blk.{layer}.attn_v": (kv, FEATURES),
            f"blk.{layer}.attn_output": (FEATURES, FEATURES),
            f"blk.{layer}.ffn_gate": (HIDDEN, FEATURES),
            f"blk.{layer}.ffn_up": (HIDDEN, FEATURES),
            f"blk.{layer}.ffn_down": (FEATURES, HIDDEN),
        }
    return shapes


def write(path: Path, kind: str) -> dict[str, Array]:
    """A random Llama of `kind` at `path`; gives what its tensors stand for, by GGUF name."""
    generator = np.random.default_rng(7)
    builder, meant = GgufBuilder(), {}
    for key, value_kind, content in metadata():
        builder.add(key, value_kind, content)
    for name, shape in matrices().items():
        weights = (generator.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
        weights *= 3 if name == "output" else 1
        blocks = encode(kind, weights)
        builder.tensor(f"{name}.weight", kind, shape, blocks)
        meant[name] = decode(kind, blocks, shape)
        assert np.abs(meant[name] - weights).max() < 0.2 * np.abs(weights).max(), "a fair encoder"
    norms = ["output_norm", *(f"blk.{n}.{kind}_norm" for n in range(LAYERS) for kind in ("attn", "ffn"))]
    for name in norms:
        meant[name] = (1 + 0.2 * generator.standard_normal(FEATURES)).astype(np.float32)
        builder.tensor(f"{name}.weight", "F32", (FEATURES,), meant[name].tobytes())
    path.write_bytes(builder.build())
    return meant


def metadata() -> list[tuple[str, int, Any]]:
    model = json.loads(tokenizer_json())["model"]
    texts = [*sorted(model["vocab"], key=model["vocab"].get), "<|end|>"]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    return [
        ("general.architecture", STRING, "llama"),
        ("llama.embedding_length", U32, FEATURES),
        ("llama.feed_forward_length", U32, HIDDEN),
        ("llama.block_count", U32, LAYERS),
        ("llama.context_length", U32, 128),
        ("llama.attention.head_count", U32, HEADS),
        ("llama.attention.head_count_kv", U32, KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", ARRAY, ArrayOf(STRING, texts)),
        ("tokenizer.ggml.token_type", ARRAY, ArrayOf(I32, [1] * END_ID + [3])),
        ("tokenizer.ggml.merges", ARRAY, ArrayOf(STRING, merges)),
        ("tokenizer.ggml.eos_token_id", U32, END_ID),
    ]


def oracle(meant: dict[str, Array]) -> Any:
    """transformers' Llama in float32 with these weights."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=FEATURES, intermediate_size=HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=128,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
    )  # fmt: skip
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm"}  # fmt: skip
    state = {
        "model.embed_tokens.weight": meant["token_embd"],
        "lm_head.weight": meant["output"],
        "model.norm.weight": meant["output_norm"],
    }
    for layer in range(LAYERS):
        for short, long in names.items():
            content = meant[f"blk.{layer}.{short}"]
            if short in ("attn_q", "attn_k"):  # the file has the pairs of a rotation beside each other
                halves = content.reshape(-1, FEATURES // HEADS // 2, 2, FEATURES).swapaxes(1, 2)
                content = halves.reshape(content.shape)
            state[f"model.layers.{layer}.{long}.weight"] = content
    model = transformers.LlamaForCausalLM(config).float().eval()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    return model


def log_probs(model: Any, tokens: list[int]) -> Array:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        values = model(torch.tensor([tokens])).logits[0].log_softmax(-1).numpy()
    return np.asarray(values[np.arange(len(tokens) - 1), tokens[1:]])


def bounds(kind: str) -> tuple[float, float]:
    if kind == "BF16" and rounds_rows("bf16"):
        return PAIRS
    return EXACT if kind in ("F32", "F16", "BF16") else ROUNDED


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_float32_oracle_of_its_blocks(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"tiny-{kind}.gguf"
    expecting = oracle(write(path, kind))
    texts = [np.random.default_rng(seed).integers(0, VOCABULARY, 100).tolist() for seed in range(2)]
    with weft.load(path, threads=2, kv_dtype="f32") as model:
        scores = model.score(texts)
        assert model.generate("the loom", max_tokens=4, temperature=0.0, ignore_eos=True)[0].token_ids
    for text, row in zip(texts, scores, strict=True):
        expected = log_probs(expecting, text)
        assert np.abs(expected + np.log(VOCABULARY)).max() > 1, "far from even: the bound means something"
        most, mean = bounds(kind)
        difference = np.abs(row - expected) / expected.std()
        assert difference.max() < most and difference.mean() < mean
