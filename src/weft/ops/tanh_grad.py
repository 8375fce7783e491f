"""tanh_grad: the gradient of tanh, from its result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Matrix, Operation, Sizes, expect, expect_same_rows, matrix, record
from weft.types import Array, MatrixType


@dataclass(frozen=True)
class TanhGrad(Operation):
    """d_x = d_out · (1 − out²). out (of tanh), d_out, d_x f32[rows, D]."""

    name = "tanh_grad"
    operands = (matrix("out"), matrix("d_out"))
    outputs = ("d_x",)
    row_wise = True
    in_place_of = ("d_out", "out")

    def shape(self, out: MatrixType, d_out: MatrixType) -> MatrixType:
        expect_same_rows(self, (out, d_out))
        expect(self, out.columns == d_out.columns, f"{out.columns} columns", d_out, "pass out's gradient")
        return out

    def flops(self, sizes: Sizes, out: MatrixType, d_out: MatrixType) -> float:
        return 3.0 * sizes[out.rows] * out.columns

    def reference(self, out: Array, d_out: Array) -> Array:
        return np.asarray(d_out * (1 - out * out))


def tanh_grad(out: Matrix, d_out: Matrix) -> Matrix:
    """Records the gradient of tanh's argument for its result `out` and `d_out`, both f32[rows, D]."""
    (d_x,) = record(TanhGrad(), out=out, d_out=d_out)
    return d_x
