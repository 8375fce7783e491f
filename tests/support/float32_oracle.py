"""A Llama's files as transformers runs them in float32, every weight as its blocks stand for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weft.io.open_checkpoint import open_checkpoint
from weft.types import Array

_UNUSED = ("quantization_config", "model_type", "architectures")


def load_oracle(path: Path) -> Any:
    """LlamaForCausalLM in float32 of the model at `path`, ready to run; torch keeps to one thread."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    # Its threads spin for each other: on busy cores two take ten times the CPU of one, and longer.
    torch.set_num_threads(1)
    checkpoint = open_checkpoint(path)
    settings = {name: value for name, value in checkpoint.config.items() if name not in _UNUSED}
    tensors = {name: torch.from_numpy(source.dequantize()) for name, source in checkpoint.tensors.items()}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**settings))
    rotary = LlamaForCausalLM(LlamaConfig(**(settings | {"num_hidden_layers": 1}))).model.rotary_emb
    missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = rotary  # its buffers are computed, not loaded
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return model.float().eval()


def oracle_log_softmax(model: Any, tokens: Sequence[int]) -> Array:
    """Natural-log probabilities float32 [tokens, V] of what may follow each token."""
    import torch

    with torch.inference_mode():
        return np.asarray(model(torch.tensor([list(tokens)])).logits[0].log_softmax(-1).numpy())


def oracle_scores(model: Any, tokens: Sequence[int]) -> Array:
    """Natural-log probability of each token after the first, float32 [tokens - 1]."""
    values = oracle_log_softmax(model, tokens)
    return values[np.arange(len(tokens) - 1), list(tokens)[1:]]
