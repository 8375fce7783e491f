"""layer_norm_grad: the gradients of layer_norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Matrix, Operand, Operation, Sizes, expect, matrix, record, tensor, vector
from weft.ops.rms_norm_grad import check_norm_grad
from weft.types import AnyVector, Array, MatrixType, TensorType


@dataclass(frozen=True)
class LayerNormGrad(Operation):
    """With s = 1 / sqrt(var(x) + eps), n = (x − mean(x)) · s and g = weight · d_out, over each row:

        d_x = s · (g − mean(g) − n · mean(g · n)) + residual
        d_weight += Σ_rows d_out · n,   d_bias += Σ_rows d_out

    x, d_out f32[rows, D], weight f32[D], [residual f32[rows, D]], [d_weight, d_bias tensors [D]] →
    d_x f32[rows, D].
    """

    eps: float

    name = "layer_norm_grad"
    operands = (
        matrix("x"),
        vector("weight"),
        matrix("d_out"),
        matrix("residual", optional=True),
        tensor("d_weight", optional=True),
        tensor("d_bias", optional=True),
    )
    outputs = ("d_x",)
    in_place_of = ("residual", "d_out")

    def shape(
        self,
        x: MatrixType,
        weight: AnyVector,
        d_out: MatrixType,
        residual: MatrixType | None = None,
        d_weight: TensorType | None = None,
        d_bias: TensorType | None = None,
    ) -> MatrixType:
        check_norm_grad(self, x, d_out, residual)
        for operand in (weight, d_weight, d_bias):
            fits = operand is None or operand.size == x.columns
            expect(self, fits, f"a vector of {x.columns}", operand, "match it to the columns of x")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, **others: object) -> float:
        return 14.0 * sizes[x.rows] * x.columns

    def reference(
        self,
        x: Array,
        weight: Array,
        d_out: Array,
        residual: Array | None = None,
        d_weight: Array | None = None,
        d_bias: Array | None = None,
    ) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        normed, weighted = centred * scale, d_out * weight
        if d_weight is not None:
            d_weight += (d_out * normed).sum(axis=0).reshape(d_weight.shape)
        if d_bias is not None:
            d_bias += d_out.sum(axis=0).reshape(d_bias.shape)
        mean = weighted.mean(axis=-1, keepdims=True)
        d_x = scale * (weighted - mean - normed * np.mean(weighted * normed, axis=-1, keepdims=True))
        return np.asarray(d_x if residual is None else d_x + residual)


def layer_norm_grad(
    x: Matrix,
    weight: Operand,
    d_out: Matrix,
    eps: float,
    residual: Matrix | None = None,
    d_weight: Operand | None = None,
    d_bias: Operand | None = None,
) -> Matrix:
    """Records the gradient of layer_norm's `x` f32[rows, D] plus `residual`; adds to `d_weight`, `d_bias`."""
    operands = {"x": x, "weight": weight, "d_out": d_out}
    optional = {"residual": residual, "d_weight": d_weight, "d_bias": d_bias}
    (d_x,) = record(LayerNormGrad(eps), **operands, **optional)
    return d_x
