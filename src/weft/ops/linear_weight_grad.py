"""linear_weight_grad: adds to the gradients of a linear layer's weight and bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.ops.operation import (
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    operand_bytes,
    record,
    tensor,
)
from weft.types import Array, MatrixType, OperandType, TensorType


@dataclass(frozen=True)
class LinearWeightGrad(Operation):
    """d_weight += d_outᵀ · x, and d_bias += the column sums of d_out.

    x f32[rows, K], d_out f32[rows, N], d_weight tensor [N, K], [d_bias tensor [N]]; no output. Each element
    is summed from zero over the rows in ascending order, then added; column sums are of blocks of 64 rows,
    added in ascending order.
    """

    compute: str = "f32"

    name = "linear_weight_grad"
    operands = (
        matrix("x", may_be_narrow=True),
        matrix("d_out", may_be_narrow=True),
        tensor("d_weight"),
        tensor("d_bias", optional=True),
    )
    outputs = ()

    def shape(
        self, x: MatrixType, d_out: MatrixType, d_weight: TensorType, d_bias: TensorType | None = None
    ) -> tuple[MatrixType, ...]:
        expect_same_rows(self, (x, d_out))
        fits = d_weight.shape == (d_out.columns, x.columns)
        expect(self, fits, f"a tensor [{d_out.columns}, {x.columns}]", d_weight, "pass the weight's gradient")
        fits = d_bias is None or d_bias.size == d_out.columns
        expect(self, fits, f"a tensor [{d_out.columns}]", d_bias, "pass the bias's gradient")
        return ()

    def flops(self, sizes: Sizes, x: MatrixType, d_out: MatrixType, **tensors: TensorType) -> float:
        return 2.0 * sizes[x.rows] * x.columns * d_out.columns

    def bytes_written(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        return operand_bytes(types["d_weight"], sizes)

    def reference(
        self, x: Array, d_out: Array, d_weight: Array, d_bias: Array | None = None
    ) -> tuple[Array, ...]:
        d_weight += d_out.T @ x
        if d_bias is not None:
            d_bias += d_out.sum(axis=0)
        return ()


def linear_weight_grad(
    x: Matrix, d_out: Matrix, d_weight: Operand, d_bias: Operand | None = None, compute: str = "f32"
) -> None:
    """Records adding the gradients of `x` f32[rows, K] · weightᵀ + bias for `d_out` f32[rows, N]."""
    record(LinearWeightGrad(compute), x=x, d_out=d_out, d_weight=d_weight, d_bias=d_bias)
