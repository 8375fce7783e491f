"""silu_gate_grad: the gradient of silu_gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Matrix, Operation, Sizes, expect, expect_same_rows, matrix, record
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class SiluGateGrad(Operation):
    """With σ the sigmoid, x = (gate, up):  d_gate = d_out · up · σ(gate) · (1 + gate · (1 − σ(gate))),
    d_up = d_out · gate · σ(gate).

    x f32[rows, 2F], d_out f32[rows, F] → d_x f32[rows, 2F]. `narrow`: d_x is rounded to bfloat16, see
    `plan/narrow.py`.
    """

    narrow: bool = False

    name = "silu_gate_grad"
    operands = (matrix("x", may_be_narrow=True), matrix("d_out"))
    outputs = ("d_x",)
    row_wise = True
    in_place_of = ("x",)

    def shape(self, x: MatrixType, d_out: MatrixType) -> MatrixType:
        expect_same_rows(self, (x, d_out))
        fits = x.columns == 2 * d_out.columns
        expect(self, fits, f"{2 * d_out.columns} columns of gate and up", x, "pass the gate's own input")
        return MatrixType(x.rows, x.columns, DType.BF16 if self.narrow else DType.F32)

    def flops(self, sizes: Sizes, x: MatrixType, d_out: MatrixType) -> float:
        return 10.0 * sizes[x.rows] * d_out.columns

    def reference(self, x: Array, d_out: Array) -> Array:
        gate, up = np.split(x, 2, axis=1)
        sigmoid = 0.5 * np.tanh(0.5 * gate) + 0.5
        d_gate = d_out * up * sigmoid * (1 + gate * (1 - sigmoid))
        return np.concatenate((d_gate, d_out * gate * sigmoid), axis=1)


def silu_gate_grad(x: Matrix, d_out: Matrix) -> Matrix:
    """Records the gradient of silu_gate's `x` f32[rows, 2F] for `d_out` f32[rows, F]."""
    (d_x,) = record(SiluGateGrad(), x=x, d_out=d_out)
    return d_x
