"""rms_norm: each row divided by its root mean square, times a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import BackwardCall, Matrix, Operand, Operation, Sizes, expect, matrix, record, vector
from weft.types import AnyVector, Array, MatrixType


@dataclass(frozen=True)
class RmsNorm(Operation):
    """out = x / sqrt(mean(x²) + eps) · weight, over each row, or over each of `heads` equal slices of a row.

    x f32[rows, D], weight f32[D / heads] → out f32[rows, D]. Zhang and Sennrich, 2019.
    """

    eps: float
    heads: int = 1

    name = "rms_norm"
    operands = (matrix("x"), vector("weight"))
    row_wise = True
    in_place_of = ("x",)
    is_cheap = True

    def shape(self, x: MatrixType, weight: AnyVector) -> MatrixType:
        expect(self, self.eps >= 0, "eps of at least 0", self.eps, "correct the model's configuration")
        fits = self.heads >= 1 and weight.size * self.heads == x.columns
        expect(self, fits, f"{self.heads} × {weight.size} columns", x, "match the weight to the slices")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, weight: AnyVector) -> float:
        return 4.0 * sizes[x.rows] * x.columns

    def reference(self, x: Array, weight: Array) -> Array:
        slices = x.reshape(len(x), self.heads, x.shape[1] // self.heads)
        scale = 1 / np.sqrt(np.mean(slices * slices, axis=-1, keepdims=True) + self.eps)
        return np.asarray((slices * scale * weight).reshape(x.shape))

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.rms_norm_grad import rms_norm_grad

        x, weight, (d_out,) = call.operands["x"], call.operands["weight"], call.d_outputs
        rest = {"residual": call.take_sum("x"), "d_weight": call.tensor_grad("weight")}
        return {"x": rms_norm_grad(x, weight, d_out, self.eps, self.heads, **rest)}


def rms_norm(x: Matrix, weight: Operand, eps: float, heads: int = 1) -> Matrix:
    """Records the RMS norm of `x` f32[rows, D], over `heads` slices of a row each; gives f32[rows, D]."""
    (out,) = record(RmsNorm(eps, heads), x=x, weight=weight)
    return out
