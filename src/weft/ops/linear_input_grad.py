"""linear_input_grad: the gradient of a linear layer's input."""

from __future__ import annotations

from dataclasses import dataclass

from weft.ops.operation import (
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
)
from weft.ops.operation import weight as weight_operand
from weft.types import AnyWeight, Array, MatrixType


@dataclass(frozen=True)
class LinearInputGrad(Operation):
    """d_x = d_out · weight + residual.

    d_out f32[rows, N], weight [N, K], packed or a tensor, [residual f32[rows, K]] → d_x f32[rows, K]. With
    compute "bf16" both factors are rounded to bfloat16 first; sums are float32.
    """

    compute: str = "f32"

    name = "linear_input_grad"
    operands = (
        matrix("d_out", may_be_narrow=True),
        weight_operand("weight"),
        matrix("residual", optional=True),
    )
    outputs = ("d_x",)
    in_place_of = ("residual",)

    def shape(self, d_out: MatrixType, weight: AnyWeight, residual: MatrixType | None = None) -> MatrixType:
        fits = d_out.columns == weight.n and not weight.interleaved
        expect(self, fits, f"{d_out.columns} columns for a plain weight", weight, "check the weight's name")
        d_x = MatrixType(d_out.rows, weight.k)
        if residual is not None:
            expect_same_rows(self, (d_out, residual))
            fits = residual.columns == weight.k
            expect(
                self, fits, f"a residual of {weight.k} columns", residual, "add a gradient of the same input"
            )
        return d_x

    def flops(self, sizes: Sizes, d_out: MatrixType, weight: AnyWeight, **others: object) -> float:
        return 2.0 * sizes[d_out.rows] * weight.n * weight.k

    def reference(self, d_out: Array, weight: Array, residual: Array | None = None) -> Array:
        d_x = d_out @ weight
        return d_x if residual is None else d_x + residual


def linear_input_grad(
    d_out: Matrix, weight: Operand, residual: Matrix | None = None, compute: str = "f32"
) -> Matrix:
    """Records `d_out` f32[rows, N] times `weight` [N, K], plus `residual`; gives f32[rows, K]."""
    (d_x,) = record(LinearInputGrad(compute), d_out=d_out, weight=weight, residual=residual)
    return d_x
