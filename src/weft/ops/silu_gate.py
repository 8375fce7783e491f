"""silu_gate: the gated activation of the Llama family's feed-forward block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.linear import alternation
from weft.ops.operation import BackwardCall, Matrix, Operation, Sizes, expect, matrix, record
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class SiluGate(Operation):
    """out = silu(gate) · up with silu(g) = g / (1 + exp(−g)); x holds gate in its first half, up in its
    second, or `alternating` in blocks of `types.INTERLEAVED_BLOCK` columns.

    x f32[rows, 2F] → out f32[rows, F]. Shazeer, 2020. `narrow`: out is rounded to bfloat16, see
    `plan/narrow.py`.
    """

    alternating: bool = False
    narrow: bool = False

    name = "silu_gate"
    operands = (matrix("x", may_be_narrow=True),)
    row_wise = True
    is_cheap = True

    def shape(self, x: MatrixType) -> MatrixType:
        expect(self, x.columns % 2 == 0, "an even number of columns", x, "pass gate and up side by side")
        return MatrixType(x.rows, x.columns // 2, DType.BF16 if self.narrow else DType.F32)

    def flops(self, sizes: Sizes, x: MatrixType) -> float:
        return 5.0 * sizes[x.rows] * (x.columns // 2)

    def reference(self, x: Array) -> Array:
        if self.alternating:
            x = x[:, np.argsort(alternation(x.shape[1]))]
        gate, up = np.split(x, 2, axis=1)
        # tanh's form of the sigmoid does not overflow for large negative gates.
        return np.asarray(gate * (0.5 * np.tanh(0.5 * gate) + 0.5) * up)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.silu_gate_grad import silu_gate_grad

        return {"x": silu_gate_grad(call.operands["x"], call.d_outputs[0])}


def silu_gate(x: Matrix, *, alternating: bool = False) -> Matrix:
    """Records silu(gate) · up of `x` f32[rows, 2F], gate then up or alternating; gives f32[rows, F]."""
    (out,) = record(SiluGate(alternating), x=x)
    return out
