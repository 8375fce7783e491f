"""tanh: the hyperbolic tangent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import BackwardCall, Matrix, Operation, Sizes, matrix, record
from weft.types import Array, MatrixType


@dataclass(frozen=True)
class Tanh(Operation):
    """out = tanh(x). x, out f32[rows, D]."""

    name = "tanh"
    operands = (matrix("x"),)
    row_wise = True
    in_place_of = ("x",)

    def shape(self, x: MatrixType) -> MatrixType:
        return x

    def flops(self, sizes: Sizes, x: MatrixType) -> float:
        return 8.0 * sizes[x.rows] * x.columns

    def reference(self, x: Array) -> Array:
        return np.tanh(x)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.tanh_grad import tanh_grad

        return {"x": tanh_grad(call.outputs[0], call.d_outputs[0])}


def tanh(x: Matrix) -> Matrix:
    """Records the hyperbolic tangent of `x` f32[rows, D]."""
    (out,) = record(Tanh(), x=x)
    return out
