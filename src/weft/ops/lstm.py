"""lstm: a recurrent layer over each sequence of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import (
    BackwardCall,
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    matrix,
    record,
)
from weft.ops.operation import weight as weight_operand
from weft.ops.sequence_attention import sequence_rows
from weft.types import AnyWeight, Array, DType, MatrixType


@dataclass(frozen=True)
class Lstm(Operation):
    """Row after row of a sequence, h and c zero before its first, with u = x_gates[r] + h[r − 1] · weightᵀ:

        i, f, o = σ of u's first, second and fourth quarter;  g = tanh of its third
        c[r] = f · c[r − 1] + i · g;   h[r] = o · tanh(c[r]);   gates[r] = (i, f, g, o)

    x_gates f32[rows, 4H] (the input's part, biases included), weight [4H, H], sequences i32[sequences, 2]
    (first_row, num_rows) → h, c f32[rows, H], gates f32[rows, 4H]. Hochreiter and Schmidhuber, 1997; gates in
    torch's order.
    """

    compute: str = "f32"

    name = "lstm"
    operands = (matrix("x_gates"), weight_operand("weight"), matrix("sequences", DType.I32))
    outputs = ("h", "c", "gates")

    def shape(self, x_gates: MatrixType, weight: AnyWeight, sequences: MatrixType) -> tuple[MatrixType, ...]:
        check_recurrence(self, x_gates, weight, sequences)
        hidden = MatrixType(x_gates.rows, weight.k)
        return hidden, hidden, x_gates

    def flops(self, sizes: Sizes, x_gates: MatrixType, weight: AnyWeight, **others: object) -> float:
        return sizes[x_gates.rows] * (2.0 * weight.n * weight.k + 16.0 * weight.k)

    def reference(self, x_gates: Array, weight: Array, sequences: Array) -> tuple[Array, ...]:
        hidden = weight.shape[1]
        h, c = (np.zeros((len(x_gates), hidden), x_gates.dtype) for _ in range(2))
        gates = np.zeros_like(x_gates)
        for rows in sequence_rows(sequences):
            h_before, c_before = np.zeros(hidden, h.dtype), np.zeros(hidden, h.dtype)
            for r in range(rows.start, rows.stop):
                h_before, c_before, gates[r] = lstm_cell(x_gates[r] + h_before @ weight.T, c_before)
                h[r], c[r] = h_before, c_before
        return h, c, gates

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.linear_weight_grad import linear_weight_grad
        from weft.ops.lstm_grad import LstmGrad
        from weft.ops.shift_rows import shift_rows

        weight, sequences = call.operands["weight"], call.operands["sequences"]
        h, c, gates = call.outputs
        operands = {"d_h": call.d_outputs[0], "gates": gates, "c": c}
        (d_gates,) = record(LstmGrad(self.compute), **operands, weight=weight, sequences=sequences)
        if (d_weight := call.tensor_grad("weight")) is not None:
            linear_weight_grad(shift_rows(h, sequences), d_gates, d_weight, compute=self.compute)
        return {"x_gates": d_gates}


def lstm_cell(sums: Array, c_before: Array) -> tuple[Array, Array, Array]:
    """h [H], c [H] and the gates [4H] of one row, of its sums [4H] and the c [H] before it."""
    i, f, g, o = (
        np.tanh(u) if at == 2 else 0.5 * np.tanh(0.5 * u) + 0.5 for at, u in enumerate(np.split(sums, 4))
    )
    c = f * c_before + i * g
    return o * np.tanh(c), c, np.concatenate((i, f, g, o))


def check_recurrence(op: Operation, gates: MatrixType, weight: AnyWeight, sequences: MatrixType) -> None:
    """Raises PlanError unless gates and recurrent weight have one hidden size."""
    expect(op, weight.n == 4 * weight.k, "a recurrent weight [4H, H]", weight, "check the weight's name")
    expect(op, gates.columns == weight.n, f"{weight.n} columns of gates", gates, "match it to the weight")
    expect(op, sequences.columns == 2, "columns (first_row, num_rows)", sequences, "pass both")


def lstm(x_gates: Matrix, weight: Operand, sequences: Matrix) -> Matrix:
    """Records a recurrent layer over `x_gates` f32[rows, 4H] within each sequence; gives h f32[rows, H]."""
    op = Lstm(x_gates.recorder.compute)
    h, _, _ = record(op, x_gates=x_gates, weight=weight, sequences=sequences)
    return h
