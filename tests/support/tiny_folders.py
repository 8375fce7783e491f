"""Small random models as Hugging Face folders, made without torch: for tests of whole answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - gives NumPy bfloat16, which safetensors may write
import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from weft.types import Array

END = "<|end|>"
CONTEXT = 256
FEATURES, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, LAYERS = 64, 4, 2, 16, 96, 2
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("a", "n"), ("an", "d"), ("Ġ", "a"), ("l", "o")]

Draw = Callable[..., Array]


def tokenizer_json() -> str:
    """A byte-level BPE of all bytes, a few merges and one token that ends a text: any text survives it."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = symbols + ["".join(pair) for pair in MERGES]
    vocabulary = {text: number for number, text in enumerate(texts)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(END, special=True)])
    return str(raw.to_str())


VOCABULARY = 256 + len(MERGES) + 1
END_ID = VOCABULARY - 1


def write_llama(folder: Path, seed: int = 1, scale: float = 0.3, **settings: Any) -> Path:
    """A Llama in `folder`; `settings` go to config.json. `scale`: the spread of the weights."""
    draw = _drawing(seed, scale)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": FEATURES,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "eos_token_id": END_ID,
    } | settings
    features, hidden = config["hidden_size"], config["intermediate_size"]
    head_dim = features // config["num_attention_heads"]
    kv = config["num_key_value_heads"] * head_dim
    tensors = {
        "model.embed_tokens.weight": draw(VOCABULARY, features),
        "model.norm.weight": 1 + draw(features),
        "lm_head.weight": draw(VOCABULARY, features),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes = {
            "self_attn.q_proj": (features, features),
            "self_attn.k_proj": (kv, features),
            "self_attn.v_proj": (kv, features),
            "self_attn.o_proj": (features, features),
            "mlp.gate_proj": (hidden, features),
            "mlp.up_proj": (hidden, features),
            "mlp.down_proj": (features, hidden),
        }
        tensors |= {f"{at}{name}.weight": draw(*shape) for name, shape in shapes.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = 1 + draw(features)
    return _write(folder, config, tensors)


def write_gpt2(folder: Path, seed: int = 2, scale: float = 0.3, **settings: Any) -> Path:
    """A GPT-2 in `folder`; `settings` go to config.json."""
    draw = _drawing(seed, scale)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": FEATURES,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": CONTEXT,
        "vocab_size": VOCABULARY,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
        "eos_token_id": END_ID,
    } | settings
    tensors = {
        "transformer.wte.weight": draw(VOCABULARY, FEATURES),
        "transformer.wpe.weight": draw(CONTEXT, FEATURES),
        "transformer.ln_f.weight": 1 + draw(FEATURES),
        "transformer.ln_f.bias": draw(FEATURES),
    }
    for layer in range(LAYERS):
        at = f"transformer.h.{layer}."
        for name in ("ln_1", "ln_2"):
            tensors |= {f"{at}{name}.weight": 1 + draw(FEATURES), f"{at}{name}.bias": draw(FEATURES)}
        shapes = {  # of Conv1D: inputs first
            "attn.c_attn": (FEATURES, 3 * FEATURES),
            "attn.c_proj": (FEATURES, FEATURES),
            "mlp.c_fc": (FEATURES, 4 * FEATURES),
            "mlp.c_proj": (4 * FEATURES, FEATURES),
        }
        for name, shape in shapes.items():
            tensors |= {f"{at}{name}.weight": draw(*shape), f"{at}{name}.bias": draw(shape[1])}
    return _write(folder, config, tensors)


def write_lstm(folder: Path, seed: int = 3, scale: float = 0.3, **settings: Any) -> Path:
    """A recurrent model of two layers in `folder`, of a hidden size that fills no panel."""
    draw = _drawing(seed, scale)
    config = {
        "model_type": "lstm",
        "architectures": ["LstmForCausalLM"],
        "vocab_size": VOCABULARY,
        "embedding_size": 40,
        "hidden_size": 72,
        "num_hidden_layers": 2,
        "eos_token_id": END_ID,
    } | settings
    wide, hidden = config["embedding_size"], config["hidden_size"]
    tensors = {"embedding.weight": 3 * draw(VOCABULARY, wide), "linear.weight": 3 * draw(VOCABULARY, hidden)}
    for layer in range(config["num_hidden_layers"]):
        tensors[f"lstm.weight_ih_l{layer}"] = draw(4 * hidden, hidden if layer else wide)
        tensors[f"lstm.weight_hh_l{layer}"] = draw(4 * hidden, hidden)
        tensors[f"lstm.bias_ih_l{layer}"] = draw(4 * hidden)
    return _write(folder, config, tensors)


def write_perceptron(folder: Path, seed: int = 4, scale: float = 0.3, **settings: Any) -> Path:
    """A next-word perceptron in `folder`."""
    draw = _drawing(seed, scale)
    config = {
        "model_type": "perceptron",
        "architectures": ["PerceptronForCausalLM"],
        "vocab_size": VOCABULARY,
        "embedding_size": 24,
        "hidden_size": 70,
        "window": 5,
        "eos_token_id": END_ID,
    } | settings
    wide, hidden = config["embedding_size"] * config["window"], config["hidden_size"]
    tensors = {
        "embedding.weight": 3 * draw(VOCABULARY, config["embedding_size"]),
        "hidden.weight": draw(hidden, wide),
        "hidden.bias": draw(hidden),
        "linear.weight": draw(VOCABULARY, hidden),
    }
    return _write(folder, config, tensors)


UNCACHED = {"lstm": write_lstm, "perceptron": write_perceptron}
"""Models without attention."""
WRITERS = {"llama": write_llama, "gpt2": write_gpt2}


def _drawing(seed: int, scale: float) -> Draw:
    generator = np.random.default_rng(seed)
    return lambda *shape: (scale * generator.standard_normal(shape)).astype(np.float32)


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, Array]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
