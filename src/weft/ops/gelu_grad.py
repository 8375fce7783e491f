"""gelu_grad: the gradient of gelu."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from weft.ops.gelu import APPROXIMATIONS
from weft.ops.operation import Matrix, Operation, Sizes, expect, expect_same_rows, matrix, record
from weft.types import Array, MatrixType


@dataclass(frozen=True)
class GeluGrad(Operation):
    """d_x = d_out · (Φ(x) + x · φ(x)), or the derivative of the tanh formula. x, d_out, d_x f32[rows, D]."""

    approximate: str = "none"

    name = "gelu_grad"
    operands = (matrix("x"), matrix("d_out"))
    outputs = ("d_x",)
    row_wise = True
    in_place_of = ("d_out", "x")

    def shape(self, x: MatrixType, d_out: MatrixType) -> MatrixType:
        known = self.approximate in APPROXIMATIONS
        expect(self, known, f"approximate one of {APPROXIMATIONS}", repr(self.approximate), "choose one")
        expect_same_rows(self, (x, d_out))
        expect(self, x.columns == d_out.columns, f"{x.columns} columns, like x", d_out, "pass its gradient")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, d_out: MatrixType) -> float:
        return 14.0 * sizes[x.rows] * x.columns

    def reference(self, x: Array, d_out: Array) -> Array:
        if self.approximate == "tanh":
            factor = math.sqrt(2 / math.pi)
            tanh = np.tanh(factor * (x + 0.044715 * x**3))
            slope = factor * (1 + 3 * 0.044715 * x * x)
            return np.asarray(d_out * 0.5 * (1 + tanh + x * (1 - tanh * tanh) * slope))
        erf = np.vectorize(math.erf, otypes=[x.dtype])
        density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return np.asarray(d_out * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density))


def gelu_grad(x: Matrix, d_out: Matrix, approximate: str = "none") -> Matrix:
    """Records the gradient of gelu's `x` f32[rows, D] for `d_out` f32[rows, D]."""
    (d_x,) = record(GeluGrad(approximate), x=x, d_out=d_out)
    return d_x
