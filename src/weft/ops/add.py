"""add: the sum of two matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.ops.operation import (
    BackwardCall,
    Matrix,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
)
from weft.types import Array, MatrixType


@dataclass(frozen=True)
class Add(Operation):
    """out = a + b. a, b f32[rows, D] → out f32[rows, D]."""

    name = "add"
    operands = (matrix("a"), matrix("b"))
    row_wise = True
    in_place_of = ("a", "b")

    def shape(self, a: MatrixType, b: MatrixType) -> MatrixType:
        expect_same_rows(self, (a, b))
        expect(
            self,
            a.columns == b.columns,
            f"b of {a.columns} columns, like a",
            b,
            "add what has the same features",
        )
        return a

    def flops(self, sizes: Sizes, a: MatrixType, b: MatrixType) -> float:
        return sizes[a.rows] * a.columns

    def reference(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        return {"a": call.d_outputs[0], "b": call.d_outputs[0]}


def add(a: Matrix, b: Matrix) -> Matrix:
    """Records the sum of `a` and `b`, both f32[rows, D]; gives f32[rows, D]."""
    (out,) = record(Add(), a=a, b=b)
    return out
