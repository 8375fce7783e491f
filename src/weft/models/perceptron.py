"""The perceptron as a next-word predictor; for vectors it is in `weft.models.vector_perceptron`.

    logits = linear(tanh(linear(embeddings of the last words, side by side)))

That of Bengio et al., 2003, without direct connections; its output layer has no bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weft import ops
from weft.io.tensor_source import TensorSource
from weft.models.config import Settings, TokenModelConfig, setting
from weft.models.stateful import WINDOWS, RecurrentStep
from weft.models.weight_spec import WeightSpec, matrix_spec, vector_spec
from weft.ops import Matrix
from weft.plan import Recorder

ARCHITECTURES = ("PerceptronForCausalLM",)


@dataclass(frozen=True)
class PerceptronConfig(TokenModelConfig):
    """Configuration of a next-word predictor over the last `window` words."""

    hidden_features: int
    window: int


def read_config(architecture: str, settings: Settings) -> PerceptronConfig:
    """The configuration in `settings`, a config.json. Raises ModelFileError."""
    return PerceptronConfig(
        architecture=architecture,
        vocabulary_size=setting(settings, "vocab_size", int),
        features=setting(settings, "embedding_size", int),
        max_context=setting(settings, "max_position_embeddings", int, 1 << 20),
        tied_head=False,
        hidden_features=setting(settings, "hidden_size", int),
        window=setting(settings, "window", int, 3),
    )


def weight_specs(config: PerceptronConfig, tensors: Mapping[str, TensorSource]) -> Iterator[WeightSpec]:
    """Every weight of the predictor and the tensors of the file that make it."""
    yield matrix_spec("embedding", "embedding.weight")
    yield matrix_spec("hidden", "hidden.weight")
    yield vector_spec("hidden_bias", "hidden.bias")
    yield matrix_spec("head", "linear.weight")


def record_features(r: Recorder, config: PerceptronConfig, step: RecurrentStep, context: int) -> Matrix:
    """Records the predictor; gives f32[wanted rows, H]. A run takes WINDOWS i32[rows, window], too."""
    x = ops.embedding(r.input(WINDOWS, columns=config.window), r.weight("embedding"))
    return step.wanted_rows(ops.tanh(ops.linear(x, r.weight("hidden"), r.weight("hidden_bias"))))
