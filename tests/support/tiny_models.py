"""Small random models of each family, made by transformers: the oracle of ours."""

from __future__ import annotations

from typing import Any

SIZES = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
LINEAR = {"rope_type": "linear", "factor": 2.0}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 16.0],
    "original_max_position_embeddings": 64,
    "factor": 4.0,
}

# name -> (class stem in transformers, settings over SIZES)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama tied": ("Llama", {"tie_word_embeddings": True}),
    "llama biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama head_dim": ("Llama", {"head_dim": 20, "intermediate_size": 36}),
    "llama one kv head": ("Llama", {"num_key_value_heads": 1}),
    "llama linear rope": ("Llama", {"rope_scaling": LINEAR}),
    "llama 3 rope": ("Llama", {"rope_scaling": LLAMA3, "rope_theta": 500000.0}),
    "llama dynamic rope": ("Llama", {"rope_scaling": DYNAMIC}),
    "llama yarn rope": ("Llama", {"rope_scaling": YARN}),
    "llama longrope": ("Llama", {"rope_scaling": LONGROPE}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral window": ("Mistral", {"sliding_window": 7}),
    "qwen2": ("Qwen2", {}),
    "qwen2 windows": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1, "num_hidden_layers": 3},
    ),
    "qwen2 yarn": ("Qwen2", {"rope_scaling": YARN}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3 biases": ("Qwen3", {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True}),
    "gpt2": ("GPT2", {}),
    "gpt2 exact gelu": ("GPT2", {"activation_function": "gelu", "n_inner": 100}),
}


def make(name: str, **settings: Any) -> Any:
    """The random model called `name`, in float32, ready to run. Skips the test where transformers is
    missing.
    """
    import pytest

    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    stem, own = MODELS[name]
    sizes = dict(SIZES)
    if stem == "GPT2":
        names = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
        sizes = {names[key]: value for key, value in SIZES.items() if key in names} | {
            "vocab_size": SIZES["vocab_size"],
            "n_positions": SIZES["max_position_embeddings"],
        }
    config = getattr(transformers, f"{stem}Config")(**(sizes | own | settings))
    config._attn_implementation = "eager"
    torch.manual_seed(len(name))
    suffix = "LMHeadModel" if stem == "GPT2" else "ForCausalLM"
    model = getattr(transformers, f"{stem}{suffix}")(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms away from 0 and 1, features of all sizes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def logits(model: Any, tokens: list[int]) -> Any:
    """Its logits float32 [tokens, V] for one text."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()
