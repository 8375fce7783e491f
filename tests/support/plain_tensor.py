"""Weights in training that are plain arrays: no native code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from support.plain_weight import PlainWeight

from weft.plan.record import GRADIENT_PREFIX
from weft.types import Array, TensorType


@dataclass
class PlainTensor:
    """A float32 array that plans take as a tensor."""

    content: Array

    @property
    def type(self) -> TensorType:
        return TensorType(self.content.shape)

    def dequantize(self) -> Array:
        return self.content


def trained(weights: Mapping[str, PlainWeight | Array]) -> dict[str, PlainTensor]:
    """All of a model's weights as tensors, and zeros for their gradients."""
    contents = {
        name: weight.content if isinstance(weight, PlainWeight) else weight
        for name, weight in weights.items()
    }
    tensors = {name: PlainTensor(content) for name, content in contents.items()}
    return tensors | {GRADIENT_PREFIX + name: PlainTensor(content * 0) for name, content in contents.items()}
