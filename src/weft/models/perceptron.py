"""The two-layer perceptron f(x) = W1 · tanh(W2 · x + b2) + b1: for vectors, and as a next-word predictor.

    vectors:    out = linear(tanh(linear(x)))
    words:      logits = linear(tanh(linear(embeddings of the last words, side by side)))

The predictor is that of Bengio et al., 2003, without direct connections; its output layer has no bias.
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
from weft.plan import Plan, Recorder, Value, Weights, freeze
from weft.plan.backward import backward
from weft.types import ROWS, DType

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


def build_vector_plan(weights: Weights, inputs: int, outputs: int, rows: int, train: bool = True) -> Plan:
    """A plan of the perceptron on vectors, for at most `rows` of them.

    weights: "hidden" [H, inputs], "hidden_bias" [H], "output" [outputs, H], "output_bias" [outputs]. Inputs
    of a run: x f32[rows, inputs]; in training also targets f32[rows, outputs] and loss_weights f32[rows, 1],
    with gradients of Σ loss_weights · loss added to the d_ tensors. Outputs: out f32[rows, outputs], and in
    training loss f32[rows, 1].
    """
    r = Recorder(weights)
    x = r.input("x", columns=inputs, dtype=DType.F32)
    hidden = ops.tanh(ops.linear(x, r.weight("hidden"), r.weight("hidden_bias")))
    out = ops.linear(hidden, r.weight("output"), r.weight("output_bias"))
    r.output("out", out)
    if train:
        targets = r.input("targets", columns=outputs, dtype=DType.F32)
        loss, d_out = ops.squared_error(out, targets, r.input("loss_weights", dtype=DType.F32))
        r.output("loss", loss)
        assert isinstance(out, Value) and isinstance(d_out, Value)
        backward(r, {out: d_out})
    return freeze(r.finish(), {ROWS: rows})
