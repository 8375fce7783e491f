"""cross_entropy: how badly each row's logits, made and used in passing, foretell its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from weft.ops.operation import (
    Matrix,
    Operand,
    OperandSpec,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
)
from weft.ops.operation import weight as weight_operand
from weft.types import AnyWeight, Array, DType, MatrixType


@dataclass(frozen=True)
class CrossEntropy(Operation):
    """For logits l = x · weightᵀ, row by row, with s = label_smoothing and L = log Σ_j exp(l_j):

        loss = (1 − s) · (L − l[target]) + s · (L − mean_j l_j) + z_loss · L²
        correct = 1 where the target is the first largest logit, else 0

    x f32[rows, D], weight [V, D], packed or a tensor, targets i32[rows, 1] → loss, correct f32[rows, 1].
    Natural logarithm; logits exist for a chunk of rows at a time. Szegedy et al., 2016 (smoothing); Chowdhery
    et al., 2022 (z-loss).
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    compute: str = "f32"

    name = "cross_entropy"
    operands: ClassVar[tuple[OperandSpec, ...]] = (
        matrix("x"),
        weight_operand("weight"),
        matrix("targets", DType.I32),
    )
    outputs: ClassVar[tuple[str, ...]] = ("loss", "correct")

    def shape(self, x: MatrixType, weight: AnyWeight, targets: MatrixType) -> tuple[MatrixType, ...]:
        check_head(self, x, weight, targets)
        one = MatrixType(x.rows, 1)
        return one, one

    def flops(self, sizes: Sizes, x: MatrixType, weight: AnyWeight, **others: object) -> float:
        return sizes[x.rows] * weight.n * (2.0 * weight.k + 4.0)

    def reference(self, x: Array, weight: Array, targets: Array) -> tuple[Array, ...]:
        logits = x @ weight.T
        log_sum = log_sum_exp(logits)
        return row_losses(self, logits, log_sum, targets), is_largest(logits, targets)


def check_head(op: Operation, x: MatrixType, weight: AnyWeight, targets: MatrixType) -> None:
    """Raises PlanError unless the operands are features, a head for them, and a target for each row."""
    expect_same_rows(op, (x, targets))
    expect(op, x.columns == weight.k, f"{weight.k} columns for head {weight}", x, "check the weight's name")
    expect(op, not weight.interleaved, "a plain weight", weight, "pack it without interleave")
    expect(op, targets.columns == 1, "targets of one column", targets, "pass one token a row")


def log_sum_exp(logits: Array) -> Array:
    """log Σ_j exp(logits[r, j]) as [rows, 1]."""
    top = logits.max(axis=1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))


def row_losses(op: CrossEntropy, logits: Array, log_sum: Array, targets: Array) -> Array:
    """The loss of each row, [rows, 1]."""
    at_target = np.take_along_axis(logits, targets.astype(np.int64), axis=1)
    smoothed = log_sum - logits.mean(axis=1, keepdims=True)
    plain = log_sum - at_target
    mixed = (1 - op.label_smoothing) * plain + op.label_smoothing * smoothed
    return np.asarray(mixed + op.z_loss * log_sum**2)


def is_largest(logits: Array, targets: Array) -> Array:
    """1 where the target is the first largest logit of its row, [rows, 1]."""
    return np.asarray(logits.argmax(axis=1)[:, None] == targets, logits.dtype)


def cross_entropy(
    x: Matrix,
    weight: Operand,
    targets: Matrix,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    compute: str = "f32",
) -> tuple[Matrix, Matrix]:
    """Records loss and correctness, f32[rows, 1] each, of features `x` f32[rows, D] for `targets`."""
    op = CrossEntropy(label_smoothing, z_loss, compute)
    loss, correct = record(op, x=x, weight=weight, targets=targets)
    return loss, correct
