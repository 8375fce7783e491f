"""GPT-2: learned positions, layer norms, GELU.

    h = embedding(tokens) + embedding(positions)
    for each layer:
        q, k, v = linear(layer_norm(h))
        h += linear(attention(q, k, v))
        h += linear(gelu(linear(layer_norm(h))))
    logits = linear(layer_norm(h))

Radford et al., 2019. Its files store the weights of linear layers as [inputs, outputs].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weft import ops
from weft.errors import ModelFileError, UnsupportedError
from weft.io.tensor_source import TensorSource
from weft.models.config import ModelConfig, Settings, setting
from weft.models.layers import Step
from weft.models.weight_spec import WeightSpec, matrix_spec, vector_spec
from weft.ops import Matrix
from weft.plan import Recorder

ARCHITECTURES = ("GPT2LMHeadModel",)
# Hugging Face's activation name -> our gelu's approximation.
ACTIVATIONS = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}


@dataclass(frozen=True)
class Gpt2Config(ModelConfig):
    """Configuration of a GPT-2 model. `gelu` is the approximation of its activation."""

    gelu: str


def read_config(architecture: str, settings: Settings) -> Gpt2Config:
    """The configuration in `settings`, a config.json. Raises ModelFileError, UnsupportedError."""
    _refuse_variants(settings)
    activation = setting(settings, "activation_function", str, "gelu_new")
    if activation not in ACTIVATIONS:
        raise UnsupportedError(
            f"Expected an activation_function among {', '.join(ACTIVATIONS)}, got {str(activation)[:40]!r}; "
            "choose another model."
        )
    features, heads = setting(settings, "n_embd", int), setting(settings, "n_head", int)
    if heads < 1 or features % heads:
        raise ModelFileError(
            f"Expected n_embd a multiple of {heads} heads, got {features}; correct the file."
        )
    num_layers = setting(settings, "n_layer", int)
    return Gpt2Config(
        architecture=architecture,
        vocabulary_size=setting(settings, "vocab_size", int),
        features=features,
        hidden_features=setting(settings, "n_inner", int, 4 * features),
        num_layers=num_layers,
        heads=heads,
        kv_heads=heads,
        head_dim=features // heads,
        max_context=setting(settings, "n_positions", int),
        norm_eps=setting(settings, "layer_norm_epsilon", float, 1e-5),
        tied_head=setting(settings, "tie_word_embeddings", bool, True),
        windows=(0,) * num_layers,
        gelu=ACTIVATIONS[activation],
    )


def _refuse_variants(settings: Settings) -> None:
    expected = {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }
    for name, value in expected.items():
        if settings.get(name, value) is not value:
            raise UnsupportedError(
                f"Expected {name} {value} for GPT-2, got {settings[name]!r}; choose another model."
            )


def weight_specs(config: Gpt2Config, tensors: Mapping[str, TensorSource]) -> Iterator[WeightSpec]:
    """Every weight of the model and the tensors of the file that make it."""
    yield matrix_spec("embedding", "transformer.wte.weight")
    yield matrix_spec("position_embedding", "transformer.wpe.weight")
    for layer in range(config.num_layers):
        yield from _layer_specs(layer)
    yield vector_spec("norm", "transformer.ln_f.weight")
    yield vector_spec("norm_bias", "transformer.ln_f.bias")
    if not config.tied_head:
        yield matrix_spec("head", "lm_head.weight")


_LAYER_MATRICES = {
    "qkv": "attn.c_attn",
    "attention_out": "attn.c_proj",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
_LAYER_NORMS = {"attention_norm": "ln_1", "mlp_norm": "ln_2"}


def _layer_specs(layer: int) -> Iterator[WeightSpec]:
    ours, theirs = f"layers.{layer}", f"transformer.h.{layer}"
    for name, source in _LAYER_MATRICES.items():
        yield matrix_spec(f"{ours}.{name}", f"{theirs}.{source}.weight")
        yield vector_spec(f"{ours}.{name}_bias", f"{theirs}.{source}.bias")
    for name, source in _LAYER_NORMS.items():
        yield vector_spec(f"{ours}.{name}", f"{theirs}.{source}.weight")
        yield vector_spec(f"{ours}.{name}_bias", f"{theirs}.{source}.bias")


def record_features(r: Recorder, config: Gpt2Config, step: Step, context: int) -> Matrix:
    """Records the model; gives the normed features that the head reads, f32[wanted rows, D].

    Raises ModelFileError for a context over its positions.
    """
    if context > config.max_context:
        raise ModelFileError(
            f"Expected a context of at most {config.max_context} tokens, for which the model has "
            "positions, got "
            f"{context}; shorten it."
        )
    places = ops.embedding(step.positions, r.weight("position_embedding"))
    h = ops.add(ops.embedding(step.tokens, r.weight("embedding")), places)
    for layer in range(config.num_layers):
        with r.scope(f"layers.{layer}"):
            mixed = _attention(r, config, step, layer, h)
            if layer == config.num_layers - 1:
                step, (mixed, h) = step.of_wanted_rows(mixed, h)
            h = ops.add(h, _linear(r, step, f"layers.{layer}.attention_out", mixed, config.features))
            h = ops.add(h, _feed_forward(r, config, step, layer, h))
    return _norm(r, config, "norm", h)


def _attention(r: Recorder, config: Gpt2Config, step: Step, layer: int, h: Matrix) -> Matrix:
    own = f"layers.{layer}"
    x = _norm(r, config, f"{own}.attention_norm", h)
    qkv = _linear(r, step, f"{own}.qkv", x, 3 * config.features)
    q, k, v = qkv.split(config.features, config.features, config.features)
    return step.attention(config, layer, q, k, v)


def _feed_forward(r: Recorder, config: Gpt2Config, step: Step, layer: int, h: Matrix) -> Matrix:
    own = f"layers.{layer}"
    x = _norm(r, config, f"{own}.mlp_norm", h)
    hidden = _linear(r, step, f"{own}.up", x, config.hidden_features)
    return _linear(r, step, f"{own}.down", ops.gelu(hidden, config.gelu), config.features)


def _norm(r: Recorder, config: Gpt2Config, name: str, x: Matrix) -> Matrix:
    return ops.layer_norm(x, r.weight(name), r.weight(f"{name}_bias"), config.norm_eps)


def _linear(r: Recorder, step: Step, name: str, x: Matrix, columns: int) -> Matrix:
    return step.linear(r, {name: columns}, x, r.weight(name), r.weight(f"{name}_bias"))
