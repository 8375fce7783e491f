"""The two-layer perceptron on vectors: f(x) = W1 · tanh(W2 · x + b2) + b1, with mean squared error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft import ops
from weft.errors import ModelFileError
from weft.models.config import Settings, setting
from weft.ops import Matrix
from weft.plan import Plan, Recorder, Value, Weights, freeze
from weft.plan.backward import backward
from weft.types import ROWS, Array, DType

ARCHITECTURE = "PerceptronForVectors"
MODEL_TYPE = "perceptron_vectors"
_SAMPLES = "samples"  # rows of a table, of which a run takes some
# Weights by weft's name, and as torch's two Linear layers name them.
TENSORS = {
    "hidden": "hidden.weight",
    "hidden_bias": "hidden.bias",
    "output": "output.weight",
    "output_bias": "output.bias",
}


@dataclass(frozen=True)
class VectorConfig:
    """Names of the columns that go in and come out, and the number of hidden units."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    hidden_features: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each weight by weft's name."""
        hidden = self.hidden_features
        return {
            "hidden": (hidden, len(self.inputs)),
            "hidden_bias": (hidden,),
            "output": (len(self.targets), hidden),
            "output_bias": (len(self.targets),),
        }

    def settings(self) -> dict[str, Any]:
        """The configuration as config.json has it."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": [ARCHITECTURE],
            "inputs": list(self.inputs),
            "targets": list(self.targets),
            "hidden_size": self.hidden_features,
        }


def is_vector_model(settings: Settings) -> bool:
    """Whether a config.json is one of a perceptron on vectors."""
    return settings.get("model_type") == MODEL_TYPE


def read_vector_config(settings: Settings) -> VectorConfig:
    """The configuration in `settings`. Raises ModelFileError."""
    names = [tuple(map(str, setting(settings, name, list))) for name in ("inputs", "targets")]
    config = VectorConfig(names[0], names[1], setting(settings, "hidden_size", int))
    if not (config.inputs and config.targets and config.hidden_features > 0):
        raise ModelFileError("Expected inputs, targets and hidden units, got none; take the whole model.")
    return config


def initial_vector_weights(config: VectorConfig, seed: int) -> dict[str, Array]:
    """Weights to train from: uniform up to 1/√inputs of the layer, as torch's Linear begins; by the seed."""
    weights = {}
    for index, (name, shape) in enumerate(config.shapes().items()):
        fan_in = len(config.inputs) if name.startswith("hidden") else config.hidden_features
        random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
        most = np.float32(1 / math.sqrt(fan_in))
        weights[name] = (2 * random.random(shape, np.float32) - 1) * most
    return weights


def standardized(weights: Mapping[str, Array], x: Array, y: Array) -> dict[str, Array]:
    """The weights that compute on plain numbers what `weights` compute on standardized ones.

    x, y f32[2, columns]: mean and spread of the inputs and of the targets.
    """
    hidden, output = (weights[name].astype(np.float64) for name in ("hidden", "output"))
    exact = {
        "hidden": hidden / x[1],
        "hidden_bias": weights["hidden_bias"] - hidden @ (x[0].astype(np.float64) / x[1]),
        "output": output * y[1][:, None],
        "output_bias": weights["output_bias"] * y[1].astype(np.float64) + y[0],
    }
    return {name: weight.astype(np.float32) for name, weight in exact.items()}


def build_vector_plan(
    weights: Weights, inputs: int, outputs: int, rows: int, purpose: str = "train", compute: str = "f32"
) -> Plan:
    """A plan of the perceptron, for at most `rows` vectors.

    weights: "hidden" [H, inputs], "hidden_bias" [H], "output" [outputs, H], "output_bias" [outputs]. To
    "predict", a run takes x f32[rows, inputs] and gives out f32[rows, outputs]. To "train" or "evaluate" it
    takes x f32[samples, inputs], targets f32[samples, outputs], rows i32[rows, 1], which of these samples it
    is about, and loss_weights f32[rows, 1]; it gives loss f32[rows, 1], a row's mean over its outputs.
    Training adds the gradients of Σ loss_weights · loss to the d_ tensors.
    """
    r = Recorder(weights, compute)
    is_prediction = purpose == "predict"
    x: Matrix = r.input("x", ROWS if is_prediction else _SAMPLES, columns=inputs, dtype=DType.F32)
    if not is_prediction:
        x = ops.gather_rows(x, r.input("rows"))
    hidden = ops.tanh(ops.linear(x, r.weight("hidden"), r.weight("hidden_bias")))
    out = ops.linear(hidden, r.weight("output"), r.weight("output_bias"))
    if is_prediction:
        r.output("out", out)
        return freeze(r.finish(), {ROWS: rows})
    samples = r.input("targets", _SAMPLES, columns=outputs, dtype=DType.F32)
    targets = ops.gather_rows(samples, r.input("rows"))
    loss, d_out = ops.squared_error(out, targets, r.input("loss_weights", dtype=DType.F32))
    r.output("loss", loss)
    if purpose == "train":
        assert isinstance(out, Value) and isinstance(d_out, Value)
        backward(r, {out: d_out})
    return freeze(r.finish(), {ROWS: rows})
