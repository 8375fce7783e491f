"""Hugging Face's names for the tensors of a GGUF file."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")

_LLAMA_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "output.bias": "lm_head.bias",
}
_LLAMA_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GPT2_TOP = {
    "token_embd.weight": "transformer.wte.weight",
    "position_embd.weight": "transformer.wpe.weight",
    "output_norm.weight": "transformer.ln_f.weight",
    "output_norm.bias": "transformer.ln_f.bias",
    "output.weight": "lm_head.weight",
}
_GPT2_BLOCK = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


def hugging_face_name(name: str, model_type: str) -> str:
    """The name that a Hugging Face file gives the tensor `name`; `name` itself where it has none."""
    top, block, prefix = (
        (_GPT2_TOP, _GPT2_BLOCK, "transformer.h")
        if model_type == "gpt2"
        else (_LLAMA_TOP, _LLAMA_BLOCK, "model.layers")
    )
    if name in top:
        return top[name]
    match = _BLOCK.fullmatch(name)
    if match and match[2] in block:
        return f"{prefix}.{int(match[1])}.{block[match[2]]}.{match[3]}"
    return name


def gguf_name(name: str, model_type: str) -> str | None:
    """The name that a GGUF file gives the Hugging Face tensor `name`; None where it has none."""
    top, block, prefix = (
        (_GPT2_TOP, _GPT2_BLOCK, "transformer.h")
        if model_type == "gpt2"
        else (_LLAMA_TOP, _LLAMA_BLOCK, "model.layers")
    )
    for ours, theirs in top.items():
        if theirs == name:
            return ours
    match = re.fullmatch(rf"{re.escape(prefix)}\.(\d{{1,5}})\.([\w.]+)\.(weight|bias)", name)
    blocks = {theirs: ours for ours, theirs in block.items()}
    if match and match[2] in blocks:
        return f"blk.{match[1]}.{blocks[match[2]]}.{match[3]}"
    return None
