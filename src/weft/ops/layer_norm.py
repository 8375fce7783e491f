"""layer_norm: each row shifted to mean 0 and scaled to variance 1, times a weight, plus a bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import BackwardCall, Matrix, Operand, Operation, Sizes, expect, matrix, record, vector
from weft.types import AnyVector, Array, MatrixType


@dataclass(frozen=True)
class LayerNorm(Operation):
    """out = (x − mean(x)) / sqrt(var(x) + eps) · weight + bias, over each row.

    x f32[rows, D], weight f32[D], [bias f32[D]] → out f32[rows, D]. Ba, Kiros and Hinton, 2016.
    """

    eps: float

    name = "layer_norm"
    operands = (matrix("x"), vector("weight"), vector("bias", optional=True))
    row_wise = True
    in_place_of = ("x",)
    is_cheap = True

    def shape(self, x: MatrixType, weight: AnyVector, bias: AnyVector | None = None) -> MatrixType:
        expect(self, self.eps >= 0, "eps of at least 0", self.eps, "correct the model's configuration")
        for operand in (weight, bias):
            fits = operand is None or operand.size == x.columns
            expect(self, fits, f"a vector of {x.columns}", operand, "match it to the columns of x")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, **vectors: AnyVector) -> float:
        return (5.0 + len(vectors)) * sizes[x.rows] * x.columns

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        out = centred / np.sqrt(variance + self.eps) * weight
        return np.asarray(out if bias is None else out + bias)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.layer_norm_grad import layer_norm_grad

        x, weight, (d_out,) = call.operands["x"], call.operands["weight"], call.d_outputs
        tensors = {"d_weight": call.tensor_grad("weight"), "d_bias": call.tensor_grad("bias")}
        return {"x": layer_norm_grad(x, weight, d_out, self.eps, call.take_sum("x"), **tensors)}


def layer_norm(x: Matrix, weight: Operand, bias: Operand | None, eps: float) -> Matrix:
    """Records the layer norm of `x` f32[rows, D]; gives f32[rows, D]."""
    (out,) = record(LayerNorm(eps), x=x, weight=weight, bias=bias)
    return out
