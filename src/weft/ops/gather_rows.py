"""gather_rows: some rows of a matrix, as a matrix of another row dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.ops.operation import Matrix, Operation, Sizes, expect, matrix, record
from weft.types import Array, DType, MatrixType, OperandType


@dataclass(frozen=True)
class GatherRows(Operation):
    """out[i] = x[rows[i]]. x f32[rows, D], rows i32[outputs, 1] → out f32[outputs, D]."""

    name = "gather_rows"
    operands = (matrix("x"), matrix("rows", DType.I32))

    def shape(self, x: MatrixType, rows: MatrixType) -> MatrixType:
        expect(self, rows.columns == 1, "row indices of one column", rows, "pass one index a row")
        return MatrixType(rows.rows, x.columns)

    def flops(self, sizes: Sizes, x: MatrixType, rows: MatrixType) -> float:
        return 0.0

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        x, rows = types["x"], types["rows"]
        assert isinstance(x, MatrixType) and isinstance(rows, MatrixType)
        return sizes[rows.rows] * (x.row_bytes + rows.row_bytes)

    def reference(self, x: Array, rows: Array) -> Array:
        return x[rows[:, 0]]


def gather_rows(x: Matrix, rows: Matrix) -> Matrix:
    """Records the rows of `x` f32[rows, D] at `rows` i32[outputs, 1]; gives f32[outputs, D]."""
    (out,) = record(GatherRows(), x=x, rows=rows)
    return out
