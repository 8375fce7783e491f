"""shift_rows: each row of a sequence gets the row before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Matrix, Operation, Sizes, expect, matrix, record
from weft.ops.sequence_attention import sequence_rows
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class ShiftRows(Operation):
    """out[r] = x[r − 1], zeros for the first row of each sequence.

    x f32[rows, D], sequences i32[sequences, 2] (first_row, num_rows) → out f32[rows, D].
    """

    name = "shift_rows"
    operands = (matrix("x"), matrix("sequences", DType.I32))

    def shape(self, x: MatrixType, sequences: MatrixType) -> MatrixType:
        expect(self, sequences.columns == 2, "columns (first_row, num_rows)", sequences, "pass both")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, sequences: MatrixType) -> float:
        return 0.0

    def reference(self, x: Array, sequences: Array) -> Array:
        out = np.zeros_like(x)
        for rows in sequence_rows(sequences):
            out[rows.start + 1 : rows.stop] = x[rows.start : rows.stop - 1]
        return out


def shift_rows(x: Matrix, sequences: Matrix) -> Matrix:
    """Records the rows of `x` f32[rows, D], each moved on to the next of its sequence."""
    (out,) = record(ShiftRows(), x=x, sequences=sequences)
    return out
