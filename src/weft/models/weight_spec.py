"""Which tensors of a file make up each weight of a model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """How a weight is held: packed for products, or as a float32 vector."""

    MATRIX = "matrix"
    VECTOR = "vector"


@dataclass(frozen=True)
class WeightSpec:
    """Weight `name` is the tensors `parts`, one after another along the output features.

    An `interleave`d matrix has two parts of equal size, gate and up, whose outputs alternate in its panels.
    """

    name: str
    parts: tuple[str, ...]
    role: Role
    interleave: bool = False


def matrix_spec(name: str, *parts: str, interleave: bool = False) -> WeightSpec:
    """A packed matrix made of `parts`."""
    return WeightSpec(name, parts, Role.MATRIX, interleave)


def vector_spec(name: str, *parts: str) -> WeightSpec:
    """A float32 vector made of `parts`."""
    return WeightSpec(name, parts, Role.VECTOR)
