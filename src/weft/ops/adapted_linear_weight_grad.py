"""adapted_linear_weight_grad: adds to the gradients of the adapters of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.ops.adapted_linear import AdaptedLinear, AdaptedOperation, part_operands
from weft.ops.operation import (
    Matrix,
    Operand,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    operand_bytes,
    record,
)
from weft.types import Array, MatrixType, OperandType, TensorType


@dataclass(frozen=True)
class AdaptedLinearWeightGrad(AdaptedOperation):
    """For each part: d_a += d_lowᵀ · x, d_b += d_outᵀ · low, of its low columns and its columns of d_out.

    x f32[rows, K], d_out f32[rows, N], low and d_low f32[rows, ranks], d_a0 [rank, K], d_b0 [n, rank], up to
    three parts; no output. Each element is summed from zero over the rows in ascending order, then added. The
    factor is in low and d_low already.
    """

    name = "adapted_linear_weight_grad"
    operands = (
        matrix("x", may_be_narrow=True),
        matrix("d_out", may_be_narrow=True),
        matrix("low"),
        matrix("d_low"),
        *part_operands("d_"),
    )
    outputs = ()

    def shape(
        self, x: MatrixType, d_out: MatrixType, low: MatrixType, d_low: MatrixType, **parts: TensorType
    ) -> tuple[MatrixType, ...]:
        expect_same_rows(self, (x, d_out, low, d_low))
        rank = self.check_parts(parts, d_out.columns, x.columns, "d_")
        fits = low.columns == rank and d_low.columns == rank
        expect(self, fits, f"{rank} low columns", (low, d_low), "pass those of the layer")
        return ()

    def flops(self, sizes: Sizes, x: MatrixType, **others: Any) -> float:
        own: int = sum(d_a.size + d_b.size for _, d_a, d_b in self.parts(others, "d_"))
        return 2.0 * sizes[x.rows] * own

    def bytes_written(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        return sum(operand_bytes(type_, sizes) for _, *pair in self.parts(types, "d_") for type_ in pair)

    def reference(
        self, x: Array, d_out: Array, low: Array, d_low: Array, **parts: Array
    ) -> tuple[Array, ...]:
        at = 0
        for first, d_a, d_b in self.parts(parts, "d_"):
            columns = slice(at, at + len(d_a))
            d_a += d_low[:, columns].T @ x
            d_b += d_out[:, first : first + len(d_b)].T @ low[:, columns]
            at += len(d_a)
        return ()


def adapted_linear_weight_grad(
    layer: AdaptedLinear, x: Matrix, d_out: Matrix, low: Matrix, d_low: Matrix, d_parts: Mapping[str, Operand]
) -> None:
    """Records adding the gradients of the parts of `layer`, d_a0 and so on, for `d_out` f32[rows, N]."""
    op = AdaptedLinearWeightGrad(layer.factor, layer.compute, *layer.firsts)
    record(op, x=x, d_out=d_out, low=low, d_low=d_low, **d_parts)
