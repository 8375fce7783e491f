"""The recurrent language model: embedding, one or more LSTM layers, a linear layer over the vocabulary.

    h = embedding(tokens)
    for each layer:
        h = lstm(linear(h))                    within each sequence
    logits = linear(h)

Hochreiter and Schmidhuber, 1997; names of tensors as torch's Embedding, LSTM and Linear have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weft import ops
from weft.io.tensor_source import TensorSource
from weft.models.config import Settings, TokenModelConfig, setting
from weft.models.stateful import RecurrentStep
from weft.models.weight_spec import WeightSpec, matrix_spec, vector_spec
from weft.ops import Matrix
from weft.plan import Recorder

ARCHITECTURES = ("LstmForCausalLM",)


@dataclass(frozen=True)
class LstmConfig(TokenModelConfig):
    """Configuration of a recurrent model: `features` of an embedding, `hidden_features` of each layer."""

    hidden_features: int
    num_layers: int


def read_config(architecture: str, settings: Settings) -> LstmConfig:
    """The configuration in `settings`, a config.json. Raises ModelFileError."""
    return LstmConfig(
        architecture=architecture,
        vocabulary_size=setting(settings, "vocab_size", int),
        features=setting(settings, "embedding_size", int),
        max_context=setting(settings, "max_position_embeddings", int, 1 << 20),
        tied_head=False,
        hidden_features=setting(settings, "hidden_size", int),
        num_layers=setting(settings, "num_hidden_layers", int, 1),
    )


def weight_specs(config: LstmConfig, tensors: Mapping[str, TensorSource]) -> Iterator[WeightSpec]:
    """Every weight of the model and the tensors of the file that make it."""
    yield matrix_spec("embedding", "embedding.weight")
    for layer in range(config.num_layers):
        yield matrix_spec(f"layers.{layer}.input", f"lstm.weight_ih_l{layer}")
        yield matrix_spec(f"layers.{layer}.recurrent", f"lstm.weight_hh_l{layer}")
        yield vector_spec(f"layers.{layer}.input_bias", f"lstm.bias_ih_l{layer}")
    yield matrix_spec("head", "linear.weight")


def record_features(r: Recorder, config: LstmConfig, step: RecurrentStep, context: int) -> Matrix:
    """Records the model; gives what the head reads, f32[wanted rows, H] of the last layer."""
    h = ops.embedding(step.tokens, r.weight("embedding"))
    for layer in range(config.num_layers):
        own = f"layers.{layer}"
        with r.scope(own):
            gates = ops.linear(h, r.weight(f"{own}.input"), r.weight(f"{own}.input_bias"))
            h = step.lstm(layer, gates, r.weight(f"{own}.recurrent"))
    return step.wanted_rows(h)
