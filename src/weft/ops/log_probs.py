"""log_probs: the log-probability of a target token in each row of logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Matrix, Operation, Sizes, expect, expect_same_rows, matrix, record
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class LogProbs(Operation):
    """out[r] = logits[r, targets[r]] − log Σ_j exp(logits[r, j]), natural logarithm.

    logits f32[rows, V], targets i32[rows, 1] → out f32[rows, 1].
    """

    name = "log_probs"
    operands = (matrix("logits"), matrix("targets", DType.I32))
    row_wise = True

    def shape(self, logits: MatrixType, targets: MatrixType) -> MatrixType:
        expect_same_rows(self, (logits, targets))
        expect(self, targets.columns == 1, "targets of one column", targets, "pass one token a row")
        return MatrixType(logits.rows, 1)

    def flops(self, sizes: Sizes, logits: MatrixType, targets: MatrixType) -> float:
        return 3.0 * sizes[logits.rows] * logits.columns

    def reference(self, logits: Array, targets: Array) -> Array:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return np.asarray(np.take_along_axis(shifted, targets, axis=1) - total)


def log_probs(logits: Matrix, targets: Matrix) -> Matrix:
    """Records the log-probability of `targets` i32[rows, 1] under `logits` f32[rows, V]; gives f32[rows,
    1].
    """
    (out,) = record(LogProbs(), logits=logits, targets=targets)
    return out
