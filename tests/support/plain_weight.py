"""Weights that are plain arrays, and checkpoints made of torch's state dictionaries: no file, no native
code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.io.hf_folder import _as_model_expects
from weft.io.model_config import normalized_config
from weft.io.tensor_source import TensorSource
from weft.models import ModelConfig, read_config
from weft.models.registry import architecture
from weft.models.weight_spec import Role
from weft.types import Array, WeightType


@dataclass(frozen=True)
class PlainWeight:
    """A float32 matrix [n, k] that plans take as a weight."""

    content: Array
    interleaved: bool = False

    @property
    def type(self) -> WeightType:
        n, k = self.content.shape
        return WeightType(n, k, "f32", self.content.nbytes, self.interleaved)

    def dequantize(self) -> Array:
        return self.content


def sources_of(model: Any) -> dict[str, TensorSource]:
    """The tensors of a Hugging Face model as its checkpoint would give them."""
    settings = normalized_config(model.config.to_dict(), "test")
    sources = {}
    for name, tensor in model.state_dict().items():
        array = np.ascontiguousarray(tensor.float().numpy())
        data = memoryview(array).cast("B")
        sources[name] = TensorSource(name, "F32", tuple(array.shape), data)
    return _as_model_expects(sources, settings)


def plain_model(model: Any) -> tuple[ModelConfig, dict[str, PlainWeight | Array]]:
    """Configuration and plain weights of a Hugging Face model."""
    config = read_config(normalized_config(model.config.to_dict(), "test"))
    return config, plain_weights(config, sources_of(model))


def plain_weights(config: ModelConfig, sources: Mapping[str, TensorSource]) -> dict[str, PlainWeight | Array]:
    """The model's weights, joined as its specs say."""
    weights: dict[str, PlainWeight | Array] = {}
    for spec in architecture(config.architecture).weight_specs(config, sources):
        content = np.concatenate([sources[part].dequantize() for part in spec.parts])
        weights[spec.name] = content if spec.role is Role.VECTOR else PlainWeight(content, spec.interleave)
    return weights
