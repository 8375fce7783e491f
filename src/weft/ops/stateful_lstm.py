"""stateful_lstm: a recurrent layer that goes on from where each text's earlier rows left it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.lstm import lstm_cell
from weft.ops.operation import Matrix, Operand, OperandSpec, Operation, Sizes, expect, matrix, record
from weft.ops.sequence_attention import sequence_rows
from weft.types import Array, DType, MatrixType, WeightType


@dataclass(frozen=True)
class StatefulLstm(Operation):
    """As `lstm`, but the row before the first of sequence s is state[s] = (h | c), not zero.

    x_gates f32[rows, 4H], weight [4H, H] packed, sequences i32[sequences, 4] (first_row, num_rows, …: see
    `weft.ops.attention.Attention`), state f32[sequences, 2H] → h f32[rows, H], state_after
    f32[sequences, 2H], what a run on the rows that follow takes as its state.
    """

    name = "stateful_lstm"
    operands = (
        matrix("x_gates"),
        OperandSpec("weight", (WeightType,)),
        matrix("sequences", DType.I32),
        matrix("state"),
    )
    outputs = ("h", "state_after")

    def shape(
        self, x_gates: MatrixType, weight: WeightType, sequences: MatrixType, state: MatrixType
    ) -> tuple[MatrixType, ...]:
        expect(
            self, weight.n == 4 * weight.k, "a recurrent weight [4H, H]", weight, "check the weight's name"
        )
        columns = f"{weight.n} columns of gates"
        expect(self, x_gates.columns == weight.n, columns, x_gates, "match it to the weight")
        expect(self, sequences.columns == 4, "four columns of sequences", sequences, "pass all of them")
        fits = state.columns == 2 * weight.k and state.rows == sequences.rows
        expect(self, fits, "h and c of each sequence", state, "pass both, side by side")
        return MatrixType(x_gates.rows, weight.k), state

    def flops(self, sizes: Sizes, x_gates: MatrixType, weight: WeightType, **others: object) -> float:
        return sizes[x_gates.rows] * (2.0 * weight.n * weight.k + 16.0 * weight.k)

    def reference(self, x_gates: Array, weight: Array, sequences: Array, state: Array) -> tuple[Array, ...]:
        hidden = weight.shape[1]
        h, after = np.zeros((len(x_gates), hidden), x_gates.dtype), np.array(state)
        for number, rows in enumerate(sequence_rows(sequences)):
            h_before, c_before = np.split(state[number], 2)
            for r in range(rows.start, rows.stop):
                h_before, c_before, _ = lstm_cell(x_gates[r] + h_before @ weight.T, c_before)
                h[r] = h_before
            after[number] = np.concatenate((h_before, c_before))
        return h, after


def stateful_lstm(
    x_gates: Matrix, weight: Operand, sequences: Matrix, state: Matrix
) -> tuple[Matrix, Matrix]:
    """Records a recurrent layer over `x_gates` f32[rows, 4H] from `state` f32[sequences, 2H] on; gives
    h f32[rows, H] and the state after the rows.
    """
    h, after = record(StatefulLstm(), x_gates=x_gates, weight=weight, sequences=sequences, state=state)
    return h, after
