"""scale: a matrix times a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import BackwardCall, Matrix, Operation, Sizes, matrix, record
from weft.types import Array, MatrixType


@dataclass(frozen=True)
class Scale(Operation):
    """out = factor · x. x, out f32[rows, D]."""

    factor: float

    name = "scale"
    operands = (matrix("x"),)
    row_wise = True
    in_place_of = ("x",)

    def shape(self, x: MatrixType) -> MatrixType:
        return x

    def flops(self, sizes: Sizes, x: MatrixType) -> float:
        return sizes[x.rows] * x.columns

    def reference(self, x: Array) -> Array:
        return np.asarray(x * self.factor)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        return {"x": scale(call.d_outputs[0], self.factor)}


def scale(x: Matrix, factor: float) -> Matrix:
    """Records `x` f32[rows, D] times `factor`."""
    (out,) = record(Scale(factor), x=x)
    return out
