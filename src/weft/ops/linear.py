"""linear: the product with a weight, and what may be fused around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.errors import PlanError
from weft.ops.operation import (
    BackwardCall,
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
    vector,
)
from weft.ops.operation import weight as weight_operand
from weft.types import INTERLEAVED_BLOCK, AnyVector, AnyWeight, Array, DType, MatrixType, TensorType

NORMS = ("", "rms_norm", "layer_norm")
GATED_ACTIVATIONS = ("silu_gate", "gelu_gate")
ACTIVATIONS = ("", "gelu_tanh", "gelu_erf", *GATED_ACTIVATIONS)
PACKED_COLUMNS = 128
"""Columns that are packed together: rows between two products are packed if they have a multiple of these."""


@dataclass(frozen=True)
class Linear(Operation):
    """out = x · weightᵀ + bias; fused: activation(norm(x) · weightᵀ + bias) + residual.

    x f32[rows, K], weight [N, K], [bias f32[N]] → out f32[rows, N]. A model records the plain form alone;
    fusing adds [norm_weight f32[K]], [norm_bias f32[K]] and [residual f32[rows, N]], and the attributes. A
    gated activation takes an interleaved weight of 2F outputs and gives F columns. A weight that is a tensor
    has neither norm nor activation; its `compute` "bf16" rounds both factors to bfloat16, sums are float32. A
    packed weight multiplies as its kind does; `compute` is then of the gradients alone.
    The columns of a plain product with an interleaved weight are gate, then up; `alternating`, they take
    turns in blocks of `types.INTERLEAVED_BLOCK`, as the weight's outputs do. `narrow`: out, of a plain
    product with a tensor, is rounded to bfloat16, see `plan/narrow.py`.
    A gated product may keep many rows of its result as the product with a weight of the kind `packs` reads
    them: its only reader, which has `packed_rows`.
    """

    norm: str = ""
    eps: float = 0.0
    activation: str = ""
    compute: str = "f32"
    alternating: bool = False
    narrow: bool = False
    packs: str = ""
    packed_rows: bool = False

    name = "linear"
    operands = (
        matrix("x", may_be_narrow=True),
        weight_operand("weight"),
        vector("bias", optional=True),
        vector("norm_weight", optional=True),
        vector("norm_bias", optional=True),
        matrix("residual", optional=True),
    )
    in_place_of = ("residual",)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is fused into it."""
        return not self.norm and not self.activation

    def shape(
        self,
        x: MatrixType,
        weight: AnyWeight,
        bias: AnyVector | None = None,
        norm_weight: AnyVector | None = None,
        norm_bias: AnyVector | None = None,
        residual: MatrixType | None = None,
    ) -> MatrixType:
        self._check_attributes(weight, norm_weight, norm_bias)
        expect(
            self,
            x.columns == weight.k,
            f"{weight.k} columns for weight {weight}",
            x,
            "check the weight's name",
        )
        for operand, size in ((bias, weight.n), (norm_weight, weight.k), (norm_bias, weight.k)):
            fits = operand is None or operand.size == size
            expect(self, fits, f"a vector of {size} for weight {weight}", operand, "check its name")
        gated = self.activation in GATED_ACTIVATIONS
        dtype = DType.BF16 if self.narrow else DType.F32
        out = MatrixType(x.rows, weight.n // 2 if gated else weight.n, dtype)
        if residual is not None:
            expect_same_rows(self, (x, residual))
            fits = residual.columns == out.columns
            expect(
                self, fits, f"a residual of {out.columns} columns", residual, "add what has the same features"
            )
        return out

    def _check_attributes(
        self, weight: AnyWeight, norm_weight: AnyVector | None, norm_bias: AnyVector | None
    ) -> None:
        if self.narrow:
            expect(
                self, isinstance(weight, TensorType), "a tensor for a narrow result", weight, "keep float32"
            )
        plain = self.is_plain or not isinstance(weight, TensorType)
        expect(self, plain, "a packed weight for a fused form", weight, "record norm and activation apart")
        expect(self, self.norm in NORMS, f"norm one of {NORMS}", repr(self.norm), "fuse another way")
        known = self.activation in ACTIVATIONS
        expect(self, known, f"activation one of {ACTIVATIONS}", repr(self.activation), "fuse another way")
        has_norm = norm_weight is not None
        expect(
            self, has_norm == bool(self.norm), "norm and norm_weight together", self.norm, "pass both or none"
        )
        shifted = norm_bias is None or self.norm == "layer_norm"
        expect(self, shifted, "norm_bias with layer_norm only", self.norm, "leave it out")
        if self.activation in GATED_ACTIVATIONS or self.alternating:
            expect(self, weight.interleaved, "an interleaved weight", weight, "pack gate and up interleaved")

    def flops(self, sizes: Sizes, x: MatrixType, weight: AnyWeight, **others: object) -> float:
        return 2.0 * sizes[x.rows] * weight.n * weight.k

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        if not self.is_plain:
            raise PlanError(
                f"linear: expected the plain form, got one fused with {self.norm or self.activation}; "
                "run the nodes that it stands for."
            )
        out = x @ weight.T
        out = out if bias is None else out + bias
        return out[:, alternation(out.shape[1])] if self.alternating else out

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.linear_input_grad import linear_input_grad
        from weft.ops.linear_weight_grad import linear_weight_grad

        x, weight, (d_out,) = call.operands["x"], call.operands["weight"], call.d_outputs
        if (d_weight := call.tensor_grad("weight")) is not None:
            linear_weight_grad(x, d_out, d_weight, call.tensor_grad("bias"), self.compute)
        if not call.wants("x"):
            return {}
        return {"x": linear_input_grad(d_out, weight, call.take_sum("x"), self.compute)}


def linear(x: Matrix, weight: Operand, bias: Operand | None = None, *, alternating: bool = False) -> Matrix:
    """Records `x` f32[rows, K] times the transpose of `weight` [N, K], plus `bias` f32[N]; gives f32[rows,
    N], see `Linear` for alternating columns.
    """
    op = Linear(compute=x.recorder.compute, alternating=alternating)
    (out,) = record(op, x=x, weight=weight, bias=bias)
    return out


def alternation(columns: int) -> Array:
    """Where each of the alternating columns is among gate, then up: i64[columns]."""
    block = INTERLEAVED_BLOCK
    gate = np.arange(columns // 2).reshape(-1, block)
    return np.concatenate([gate, gate + columns // 2], axis=1).reshape(-1)
