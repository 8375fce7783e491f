"""lstm_grad: the gradient of lstm's input gates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.lstm import check_recurrence
from weft.ops.operation import Operation, Sizes, expect, expect_same_rows, matrix
from weft.ops.operation import weight as weight_operand
from weft.ops.sequence_attention import sequence_rows
from weft.types import AnyWeight, Array, DType, MatrixType


@dataclass(frozen=True)
class LstmGrad(Operation):
    """Row before row of a sequence, from its last; t = tanh(c[r]), dh = d_h[r] + d_gates[r + 1] · weight:

        dc = dh · o · (1 − t²) + f[r + 1] · dc[r + 1]
        d_gates[r] = (dc · g · i(1 − i), dc · c[r − 1] · f(1 − f), dc · i · (1 − g²), dh · t · o(1 − o))

    d_h, c f32[rows, H], gates f32[rows, 4H] (activated), weight [4H, H], sequences i32[sequences, 2] →
    d_gates f32[rows, 4H], the gradient of x_gates.
    """

    compute: str = "f32"

    name = "lstm_grad"
    operands = (
        matrix("d_h"),
        matrix("gates"),
        matrix("c"),
        weight_operand("weight"),
        matrix("sequences", DType.I32),
    )
    outputs = ("d_gates",)

    def shape(
        self, d_h: MatrixType, gates: MatrixType, c: MatrixType, weight: AnyWeight, sequences: MatrixType
    ) -> MatrixType:
        check_recurrence(self, gates, weight, sequences)
        expect_same_rows(self, (d_h, gates, c))
        for operand in (d_h, c):
            expect(
                self, operand.columns == weight.k, f"{weight.k} columns", operand, "match it to the weight"
            )
        return gates

    def flops(self, sizes: Sizes, d_h: MatrixType, weight: AnyWeight, **others: object) -> float:
        return sizes[d_h.rows] * (2.0 * weight.n * weight.k + 24.0 * weight.k)

    def reference(self, d_h: Array, gates: Array, c: Array, weight: Array, sequences: Array) -> Array:
        d_gates = np.zeros_like(gates)
        for rows in sequence_rows(sequences):
            dh_after, dc_after = np.zeros_like(c[0]), np.zeros_like(c[0])
            for r in reversed(range(rows.start, rows.stop)):
                i, f, g, o = np.split(gates[r], 4)
                before = c[r - 1] if r > rows.start else np.zeros_like(c[r])
                t, dh = np.tanh(c[r]), d_h[r] + dh_after
                dc = dh * o * (1 - t * t) + dc_after
                parts = (
                    dc * g * i * (1 - i),
                    dc * before * f * (1 - f),
                    dc * i * (1 - g * g),
                    dh * t * o * (1 - o),
                )
                d_gates[r] = np.concatenate(parts)
                dh_after, dc_after = d_gates[r] @ weight, dc * f
        return d_gates
