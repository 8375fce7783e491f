"""adapted_linear_input_grad: the gradient of an adapted layer's input, and of its low columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.ops.adapted_linear import AdaptedOperation, LayerAdapter, part_arguments, part_operands
from weft.ops.operation import Matrix, Operand, Sizes, expect, expect_same_rows, matrix, record
from weft.ops.operation import weight as weight_operand
from weft.types import AnyWeight, Array, MatrixType, TensorType


@dataclass(frozen=True)
class AdaptedLinearInputGrad(AdaptedOperation):
    """d_low = factor · d_out[columns of a part] · b; d_x = d_out · weight + residual + d_low · a.

    d_out f32[rows, N], weight [N, K], [residual f32[rows, K]], a0 [rank, K], b0 [n, rank], up to three parts
    → d_x f32[rows, K], d_low f32[rows, ranks]. With compute "bf16" all factors are rounded to bfloat16; sums
    are float32.
    """

    name = "adapted_linear_input_grad"
    operands = (
        matrix("d_out", may_be_narrow=True),
        weight_operand("weight"),
        matrix("residual", optional=True),
        *part_operands(),
    )
    outputs = ("d_x", "d_low")
    in_place_of = ("residual",)

    def shape(
        self, d_out: MatrixType, weight: AnyWeight, residual: MatrixType | None = None, **parts: TensorType
    ) -> tuple[MatrixType, ...]:
        fits = d_out.columns == weight.n and not weight.interleaved
        expect(self, fits, f"{d_out.columns} columns for a plain weight", weight, "check the weight's name")
        if residual is not None:
            expect_same_rows(self, (d_out, residual))
            fits = residual.columns == weight.k
            expect(
                self, fits, f"a residual of {weight.k} columns", residual, "add a gradient of the same input"
            )
        low = MatrixType(d_out.rows, self.check_parts(parts, weight.n, weight.k))
        return MatrixType(d_out.rows, weight.k), low

    def flops(self, sizes: Sizes, d_out: MatrixType, weight: AnyWeight, **others: Any) -> float:
        own: int = sum(a.size + b.size for _, a, b in self.parts(others))
        return 2.0 * sizes[d_out.rows] * (weight.n * weight.k + own)

    def reference(
        self, d_out: Array, weight: Array, residual: Array | None = None, **parts: Array
    ) -> tuple[Array, Array]:
        d_x = d_out @ weight
        lows = []
        for first, a, b in self.parts(parts):
            lows.append(self.factor * (d_out[:, first : first + len(b)] @ b))
            d_x += lows[-1] @ a
        return d_x if residual is None else d_x + residual, np.concatenate(lows, axis=1)


def adapted_linear_input_grad(
    d_out: Matrix,
    weight: Operand,
    parts: Sequence[LayerAdapter],
    factor: float,
    residual: Matrix | None = None,
    compute: str = "f32",
) -> tuple[Matrix, Matrix]:
    """Records d_x f32[rows, K], to which `residual` is added, and d_low f32[rows, ranks] for `d_out`."""
    firsts, operands = part_arguments(parts)
    op = AdaptedLinearInputGrad(factor, compute, *firsts)
    d_x, d_low = record(op, d_out=d_out, weight=weight, residual=residual, **operands)
    return d_x, d_low
