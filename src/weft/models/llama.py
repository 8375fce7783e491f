"""The Llama family: Llama, Mistral, SmolLM2, Qwen2, Qwen3.

    h = embedding(tokens)
    for each layer:
        q, k, v = linear(rms_norm(h))          biases in Qwen2; q and k normed per head in Qwen3
        h += linear(attention(rotary(q), rotary(k), v))
        h += linear(silu_gate(linear(rms_norm(h))))
    logits = linear(rms_norm(h))

Touvron et al., 2023 (Llama 2); Jiang et al., 2023 (Mistral); Qwen team, 2024 and 2025.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weft import ops
from weft.errors import UnsupportedError
from weft.io.tensor_source import TensorSource
from weft.models.config import ModelConfig, Settings, layer_windows, setting
from weft.models.layers import Step, optional_weight
from weft.models.rope import RopeConfig, read_rope, rotary_frequencies
from weft.models.weight_spec import WeightSpec, matrix_spec, vector_spec
from weft.ops import Matrix
from weft.plan import Recorder
from weft.types import INTERLEAVED_BLOCK, WeightType

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True)
class LlamaConfig(ModelConfig):
    """Configuration of a model of the Llama family."""

    rope: RopeConfig
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool


def read_config(architecture: str, settings: Settings) -> LlamaConfig:
    """The configuration in `settings`, a config.json. Raises ModelFileError, UnsupportedError."""
    activation = settings.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise UnsupportedError(
            f"Expected hidden_act silu for {architecture}, got {activation!r}; choose another model."
        )
    heads = setting(settings, "num_attention_heads", int)
    features = setting(settings, "hidden_size", int)
    head_dim = setting(settings, "head_dim", int, features // max(heads, 1))
    num_layers = setting(settings, "num_hidden_layers", int)
    max_context = setting(settings, "max_position_embeddings", int, 2048)
    bias = setting(settings, "attention_bias", bool, False)
    return LlamaConfig(
        architecture=architecture,
        vocabulary_size=setting(settings, "vocab_size", int),
        features=features,
        hidden_features=setting(settings, "intermediate_size", int),
        num_layers=num_layers,
        heads=heads,
        kv_heads=setting(settings, "num_key_value_heads", int, heads),
        head_dim=head_dim,
        max_context=max_context,
        norm_eps=setting(settings, "rms_norm_eps", float, 1e-6),
        tied_head=setting(settings, "tie_word_embeddings", bool, False),
        windows=_windows(architecture, settings, num_layers),
        rope=read_rope(settings, head_dim, max_context),
        qkv_bias=bias or architecture == "Qwen2ForCausalLM",
        out_bias=bias and architecture != "Qwen2ForCausalLM",
        mlp_bias=setting(settings, "mlp_bias", bool, False) and architecture == "LlamaForCausalLM",
        qk_norm=architecture == "Qwen3ForCausalLM",
    )


def _windows(architecture: str, settings: Settings, num_layers: int) -> tuple[int, ...]:
    window = settings.get("sliding_window") and setting(settings, "sliding_window", int)
    if architecture == "MistralForCausalLM":
        return layer_windows(settings, num_layers, window)
    if architecture.startswith("Qwen") and setting(settings, "use_sliding_window", bool, False):
        first_layer = setting(settings, "max_window_layers", int, 28)
        return layer_windows(settings, num_layers, window, first_layer)
    return (0,) * num_layers


def weight_specs(config: LlamaConfig, tensors: Mapping[str, TensorSource]) -> Iterator[WeightSpec]:
    """Every weight of the model and the tensors of the file that make it."""
    yield matrix_spec("embedding", "model.embed_tokens.weight")
    for layer in range(config.num_layers):
        yield from _layer_specs(config, tensors, layer)
    yield vector_spec("norm", "model.norm.weight")
    if not config.tied_head:
        yield matrix_spec("head", "lm_head.weight")


def _layer_specs(
    config: LlamaConfig, tensors: Mapping[str, TensorSource], layer: int
) -> Iterator[WeightSpec]:
    ours, theirs = f"layers.{layer}", f"model.layers.{layer}"
    qkv = [f"{theirs}.self_attn.{part}_proj" for part in "qkv"]
    gate_up = [f"{theirs}.mlp.{part}_proj" for part in ("gate", "up")]
    yield vector_spec(f"{ours}.attention_norm", f"{theirs}.input_layernorm.weight")
    yield matrix_spec(f"{ours}.qkv", *(f"{name}.weight" for name in qkv))
    yield matrix_spec(f"{ours}.attention_out", f"{theirs}.self_attn.o_proj.weight")
    yield vector_spec(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm.weight")
    parts = [f"{name}.weight" for name in gate_up]
    yield matrix_spec(f"{ours}.gate_up", *parts, interleave=_may_interleave(config, tensors, parts))
    yield matrix_spec(f"{ours}.down", f"{theirs}.mlp.down_proj.weight")
    if config.qkv_bias:
        yield vector_spec(f"{ours}.qkv_bias", *(f"{name}.bias" for name in qkv))
    if config.out_bias:
        yield vector_spec(f"{ours}.attention_out_bias", f"{theirs}.self_attn.o_proj.bias")
    if config.qk_norm:
        yield vector_spec(f"{ours}.q_norm", f"{theirs}.self_attn.q_norm.weight")
        yield vector_spec(f"{ours}.k_norm", f"{theirs}.self_attn.k_norm.weight")
    if config.mlp_bias:
        yield vector_spec(f"{ours}.gate_up_bias", *(f"{name}.bias" for name in gate_up))
        yield vector_spec(f"{ours}.down_bias", f"{theirs}.mlp.down_proj.bias")


def _may_interleave(config: LlamaConfig, tensors: Mapping[str, TensorSource], parts: list[str]) -> bool:
    kinds = {tensors[part].kind for part in parts if part in tensors}
    return len(kinds) == 1 and config.hidden_features % INTERLEAVED_BLOCK == 0 and not config.mlp_bias


def record_features(r: Recorder, config: LlamaConfig, step: Step, context: int) -> Matrix:
    """Records the model for texts of up to `context` tokens; gives the normed features that the head reads,
    f32[wanted rows, D].
    """
    h = ops.embedding(step.tokens, r.weight("embedding"))
    for layer in range(config.num_layers):
        with r.scope(f"layers.{layer}"):
            mixed = _attention(r, config, step, context, layer, h)
            if layer == config.num_layers - 1:
                step, (mixed, h) = step.of_wanted_rows(mixed, h)
            h = ops.add(h, _attention_out(r, config, step, layer, mixed))
            h = ops.add(h, _feed_forward(r, config, step, layer, h))
    return ops.rms_norm(h, r.weight("norm"), config.norm_eps)


def _attention(r: Recorder, config: LlamaConfig, step: Step, context: int, layer: int, h: Matrix) -> Matrix:
    own = f"layers.{layer}"
    x = ops.rms_norm(h, r.weight(f"{own}.attention_norm"), config.norm_eps)
    bias = optional_weight(r, f"{own}.qkv_bias", config.qkv_bias)
    kv_columns = config.kv_heads * config.head_dim
    columns = {"q_proj": config.heads * config.head_dim, "k_proj": kv_columns, "v_proj": kv_columns}
    parts = {f"{own}.{part}": count for part, count in columns.items()}
    q, k, v = step.linear(r, parts, x, r.weight(f"{own}.qkv"), bias).split(*columns.values())
    if config.qk_norm:
        q = ops.rms_norm(q, r.weight(f"{own}.q_norm"), config.norm_eps, heads=config.heads)
        k = ops.rms_norm(k, r.weight(f"{own}.k_norm"), config.norm_eps, heads=config.kv_heads)
    q = _rotate(r, config, step, context, q, config.heads)
    k = _rotate(r, config, step, context, k, config.kv_heads)
    return step.attention(config, layer, q, k, v)


def _attention_out(r: Recorder, config: LlamaConfig, step: Step, layer: int, mixed: Matrix) -> Matrix:
    own = f"layers.{layer}"
    bias = optional_weight(r, f"{own}.attention_out_bias", config.out_bias)
    return step.linear(r, {f"{own}.o_proj": config.features}, mixed, r.weight(f"{own}.attention_out"), bias)


def _rotate(r: Recorder, config: LlamaConfig, step: Step, context: int, x: Matrix, heads: int) -> Matrix:
    rotary = rotary_frequencies(config.rope, context)
    inv_freq = r.constant("inv_freq", rotary.inv_freq)
    dims = (heads, config.head_dim, config.rope.rotary_dim)
    return ops.rotary(x, step.positions, inv_freq, *dims, attention_scale=rotary.attention_scale)


def _feed_forward(r: Recorder, config: LlamaConfig, step: Step, layer: int, h: Matrix) -> Matrix:
    own = f"layers.{layer}"
    x = ops.rms_norm(h, r.weight(f"{own}.mlp_norm"), config.norm_eps)
    up_bias = optional_weight(r, f"{own}.gate_up_bias", config.mlp_bias)
    weight = r.weight(f"{own}.gate_up")
    parts = dict.fromkeys((f"{own}.gate_proj", f"{own}.up_proj"), config.hidden_features)
    alternating = step.adapts(r, parts) and isinstance(weight.type, WeightType) and weight.type.interleaved
    gate_up = step.linear(r, parts, x, weight, up_bias, alternating)
    gated = ops.silu_gate(gate_up, alternating=alternating)
    down_bias = optional_weight(r, f"{own}.down_bias", config.mlp_bias)
    return step.linear(r, {f"{own}.down_proj": config.features}, gated, r.weight(f"{own}.down"), down_bias)
