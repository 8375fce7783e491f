"""rms_norm_grad: the gradients of rms_norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import (
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
    tensor,
    vector,
)
from weft.types import AnyVector, Array, MatrixType, TensorType


@dataclass(frozen=True)
class RmsNormGrad(Operation):
    """With s = 1 / sqrt(mean(x²) + eps) over a row, or over each of `heads` equal slices of a row:

        d_x = s · (weight · d_out − x · s² · mean(weight · d_out · x)) + residual
        d_weight += Σ_rows d_out · x · s

    x, d_out f32[rows, D], weight f32[D / heads], [residual f32[rows, D]], [d_weight tensor [D / heads]] →
    d_x f32[rows, D].
    """

    eps: float
    heads: int = 1

    name = "rms_norm_grad"
    operands = (
        matrix("x"),
        vector("weight"),
        matrix("d_out"),
        matrix("residual", optional=True),
        tensor("d_weight", optional=True),
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
    ) -> MatrixType:
        check_norm_grad(self, x, d_out, residual)
        fits = self.heads >= 1 and weight.size * self.heads == x.columns
        expect(self, fits, f"{self.heads} × {weight.size} columns", x, "match the weight to the slices")
        fits = d_weight is None or d_weight.size == weight.size
        expect(self, fits, f"a tensor [{weight.size}]", d_weight, "pass the weight's gradient")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, **others: object) -> float:
        return 11.0 * sizes[x.rows] * x.columns

    def reference(
        self,
        x: Array,
        weight: Array,
        d_out: Array,
        residual: Array | None = None,
        d_weight: Array | None = None,
    ) -> Array:
        slices, d_slices = (part.reshape(len(x), self.heads, -1) for part in (x, d_out))
        scale = 1 / np.sqrt(np.mean(slices * slices, axis=-1, keepdims=True) + self.eps)
        if d_weight is not None:
            d_weight += (d_slices * slices * scale).sum(axis=(0, 1)).reshape(d_weight.shape)
        weighted = d_slices * weight
        mean = np.mean(weighted * slices, axis=-1, keepdims=True)
        d_x = (scale * (weighted - slices * scale * scale * mean)).reshape(x.shape)
        return np.asarray(d_x if residual is None else d_x + residual)


def check_norm_grad(op: Operation, x: MatrixType, d_out: MatrixType, residual: MatrixType | None) -> None:
    """Raises PlanError unless the matrices of a norm's gradient have one shape."""
    for other in (d_out, residual):
        if other is not None:
            expect_same_rows(op, (x, other))
            expect(op, other.columns == x.columns, f"{x.columns} columns, like x", other, "pass its gradient")


def rms_norm_grad(
    x: Matrix,
    weight: Operand,
    d_out: Matrix,
    eps: float,
    heads: int = 1,
    residual: Matrix | None = None,
    d_weight: Operand | None = None,
) -> Matrix:
    """Records the gradient of rms_norm's `x` f32[rows, D] plus `residual`; adds to `d_weight`."""
    op = RmsNormGrad(eps, heads)
    (d_x,) = record(op, x=x, weight=weight, d_out=d_out, residual=residual, d_weight=d_weight)
    return d_x
