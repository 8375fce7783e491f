"""gelu: the Gaussian error linear unit, exact or by tanh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import BackwardCall, Matrix, Operation, Sizes, expect, matrix, record
from weft.types import Array, MatrixType

APPROXIMATIONS = ("none", "tanh")


@dataclass(frozen=True)
class Gelu(Operation):
    """out = x · Φ(x), Φ the normal distribution function; `approximate="tanh"` takes GPT-2's formula.

    x f32[rows, D] → out f32[rows, D]. Hendrycks and Gimpel, 2016.
    """

    approximate: str = "none"

    name = "gelu"
    operands = (matrix("x"),)
    row_wise = True
    in_place_of = ("x",)
    is_cheap = True

    def shape(self, x: MatrixType) -> MatrixType:
        known = self.approximate in APPROXIMATIONS
        expect(
            self, known, f"approximate one of {APPROXIMATIONS}", repr(self.approximate), "choose one of these"
        )
        return x

    def flops(self, sizes: Sizes, x: MatrixType) -> float:
        return 8.0 * sizes[x.rows] * x.columns

    def reference(self, x: Array) -> Array:
        if self.approximate == "tanh":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)))
        erf = np.vectorize(math.erf, otypes=[x.dtype])
        return np.asarray(0.5 * x * (1 + erf(x * math.sqrt(0.5))))

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.gelu_grad import gelu_grad

        return {"x": gelu_grad(call.operands["x"], call.d_outputs[0], self.approximate)}


def gelu(x: Matrix, approximate: str = "none") -> Matrix:
    """Records the GELU of `x` f32[rows, D]; gives f32[rows, D]."""
    (out,) = record(Gelu(approximate), x=x)
    return out
