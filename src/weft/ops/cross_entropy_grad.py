"""cross_entropy_grad: the loss of each row together with its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.cross_entropy import CrossEntropy, check_head, is_largest, log_sum_exp, row_losses
from weft.ops.operation import (
    Matrix,
    Operand,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    operand_bytes,
    record,
    tensor,
)
from weft.ops.operation import weight as weight_operand
from weft.types import AnyWeight, Array, DType, MatrixType, OperandType, TensorType


@dataclass(frozen=True)
class CrossEntropyGrad(CrossEntropy):
    """`cross_entropy`, and the gradients of Σ_r loss_weights[r] · loss[r].

    x f32[rows, D], weight [V, D], targets i32[rows, 1], loss_weights f32[rows, 1], [d_weight tensor [V, D]] →
    loss, correct f32[rows, 1], d_x f32[rows, D]. Rows of weight 0 have a loss, and no gradient. The gradient
    of the weight is summed from zero over each chunk of 256 rows, then added, chunks ascending.
    """

    name = "cross_entropy_grad"
    operands = (
        matrix("x"),
        weight_operand("weight"),
        matrix("targets", DType.I32),
        matrix("loss_weights"),
        tensor("d_weight", optional=True),
    )
    outputs = ("loss", "correct", "d_x")

    def shape(  # type: ignore[override]
        self,
        x: MatrixType,
        weight: AnyWeight,
        targets: MatrixType,
        loss_weights: MatrixType,
        d_weight: TensorType | None = None,
    ) -> tuple[MatrixType, ...]:
        check_head(self, x, weight, targets)
        expect_same_rows(self, (x, loss_weights))
        expect(self, loss_weights.columns == 1, "loss_weights of one column", loss_weights, "pass one a row")
        fits = d_weight is None or d_weight.shape == (weight.n, weight.k)
        expect(self, fits, f"a tensor [{weight.n}, {weight.k}]", d_weight, "pass the weight's gradient")
        one = MatrixType(x.rows, 1)
        return one, one, x

    def flops(self, sizes: Sizes, x: MatrixType, weight: AnyWeight, **others: object) -> float:
        products = 4.0 if others.get("d_weight") is None else 6.0
        return sizes[x.rows] * weight.n * (products * weight.k + 8.0)

    def bytes_written(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        written = super().bytes_written(sizes, types)
        return written + (operand_bytes(types["d_weight"], sizes) if "d_weight" in types else 0.0)

    def reference(  # type: ignore[override]
        self, x: Array, weight: Array, targets: Array, loss_weights: Array, d_weight: Array | None = None
    ) -> tuple[Array, ...]:
        logits = x @ weight.T
        log_sum = log_sum_exp(logits)
        d_logits = np.exp(logits - log_sum) * (1 + 2 * self.z_loss * log_sum)
        d_logits -= self.label_smoothing / len(weight)
        d_logits[np.arange(len(x)), targets[:, 0]] -= 1 - self.label_smoothing
        d_logits *= loss_weights
        if d_weight is not None:
            d_weight += d_logits.T @ x
        return row_losses(self, logits, log_sum, targets), is_largest(logits, targets), d_logits @ weight


def cross_entropy_grad(
    x: Matrix,
    weight: Operand,
    targets: Matrix,
    loss_weights: Matrix,
    d_weight: Operand | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    compute: str = "f32",
) -> tuple[Matrix, Matrix, Matrix]:
    """Records loss, correctness (f32[rows, 1]) and d_x f32[rows, D]; adds to the head's `d_weight`."""
    op = CrossEntropyGrad(label_smoothing, z_loss, compute)
    loss, correct, d_x = record(
        op, x=x, weight=weight, targets=targets, loss_weights=loss_weights, d_weight=d_weight
    )
    return loss, correct, d_x
