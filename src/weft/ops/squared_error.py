"""squared_error: the mean squared error of each row, with its gradient."""

from __future__ import annotations

from dataclasses import dataclass

from weft.ops.operation import Matrix, Operation, Sizes, expect, expect_same_rows, matrix, record
from weft.types import Array, MatrixType


@dataclass(frozen=True)
class SquaredError(Operation):
    """loss[r] = mean_c (x[r, c] − targets[r, c])²; d_x is the gradient of Σ_r loss_weights[r] · loss[r].

    x, targets f32[rows, C], loss_weights f32[rows, 1] → loss f32[rows, 1], d_x f32[rows, C].
    """

    name = "squared_error"
    operands = (matrix("x"), matrix("targets"), matrix("loss_weights"))
    outputs = ("loss", "d_x")
    row_wise = True

    def shape(self, x: MatrixType, targets: MatrixType, loss_weights: MatrixType) -> tuple[MatrixType, ...]:
        expect_same_rows(self, (x, targets, loss_weights))
        expect(self, targets.columns == x.columns, f"{x.columns} columns, like x", targets, "pass one each")
        expect(self, loss_weights.columns == 1, "loss_weights of one column", loss_weights, "pass one a row")
        return MatrixType(x.rows, 1), x

    def flops(self, sizes: Sizes, x: MatrixType, **others: object) -> float:
        return 5.0 * sizes[x.rows] * x.columns

    def reference(self, x: Array, targets: Array, loss_weights: Array) -> tuple[Array, ...]:
        error = x - targets
        loss = (error * error).mean(axis=1, keepdims=True)
        return loss, error * (2 / x.shape[1]) * loss_weights


def squared_error(x: Matrix, targets: Matrix, loss_weights: Matrix) -> tuple[Matrix, Matrix]:
    """Records the loss f32[rows, 1] of `x` f32[rows, C] and its gradient f32[rows, C]."""
    loss, d_x = record(SquaredError(), x=x, targets=targets, loss_weights=loss_weights)
    return loss, d_x
