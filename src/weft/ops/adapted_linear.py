"""adapted_linear: a linear layer with low-rank adapters beside its weight, in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weft.ops.concat import concat
from weft.ops.operation import (
    BackwardCall,
    Matrix,
    Operand,
    OperandSpec,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
    tensor,
    vector,
)
from weft.ops.operation import weight as weight_operand
from weft.ops.scale import scale
from weft.types import AnyVector, AnyWeight, Array, DType, MatrixType, TensorType

MAX_PARTS = 3


@dataclass(frozen=True)
class LayerAdapter:
    """What adapts a layer's columns from `first` on: a tensor [rank, K], b tensor [columns, rank]."""

    first: int
    a: Operand
    b: Operand


def part_operands(prefix: str = "") -> tuple[OperandSpec, ...]:
    """The operands PREFIXa0, PREFIXb0, and those of further parts."""
    return tuple(
        tensor(f"{prefix}{name}{index}", optional=index > 0) for index in range(MAX_PARTS) for name in "ab"
    )


@dataclass(frozen=True)
class AdaptedOperation(Operation):
    """What the operations of adapted layers share. factor: of what adapters add. first0 to first2: where the
    columns of each part begin, at an even one.
    """

    factor: float
    compute: str = "f32"
    first0: int = 0
    first1: int = 0
    first2: int = 0

    @property
    def firsts(self) -> tuple[int, int, int]:
        """Where the columns of each part begin."""
        return self.first0, self.first1, self.first2

    def parts(self, operands: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[int, Any, Any]]:
        """(first column, a, b) of each part among `operands`."""
        for index, first in enumerate(self.firsts):
            if operands.get(f"{prefix}a{index}") is not None:
                yield first, operands[f"{prefix}a{index}"], operands[f"{prefix}b{index}"]

    def check_parts(self, parts: Mapping[str, Any], n: int, k: int, prefix: str = "") -> int:
        """The low columns of all parts of a layer of n outputs and k inputs. Raises PlanError."""
        rank = 0
        for first, a, b in self.parts(parts, prefix):
            fits = a.k == k and b.k == a.n and first + b.n <= n and first % 2 == 0
            expect(self, fits, f"adapters of [{n}, {k}] from even columns on", (a, b), "check their shapes")
            rank += a.n
        return rank


@dataclass(frozen=True)
class AdaptedLinear(AdaptedOperation):
    """low = factor · x · aᵀ, out = x · weightᵀ + bias, out[columns of a part] += low · bᵀ.

    x f32[rows, K], weight [N, K] plain, [bias f32[N]], a0 [rank, K], b0 [n, rank], up to three parts → out
    f32[rows, N], low f32[rows, ranks], the low columns of the parts side by side. Fusing adds [residual
    f32[rows, N]] to out. With compute "bf16" all factors are rounded to bfloat16; sums are float32. `narrow`:
    out is rounded to bfloat16, see `plan/narrow.py`.
    """

    narrow: bool = field(default=False, kw_only=True)

    name = "adapted_linear"
    operands = (
        matrix("x", may_be_narrow=True),
        weight_operand("weight"),
        vector("bias", optional=True),
        matrix("residual", optional=True),
        *part_operands(),
    )
    outputs = ("out", "low")
    in_place_of = ("residual",)

    def shape(
        self,
        x: MatrixType,
        weight: AnyWeight,
        bias: AnyVector | None = None,
        residual: MatrixType | None = None,
        **parts: TensorType,
    ) -> tuple[MatrixType, ...]:
        fits = x.columns == weight.k and not weight.interleaved
        expect(self, fits, f"{x.columns} inputs of a plain weight", weight, "check its name")
        fits = bias is None or bias.size == weight.n
        expect(self, fits, f"a vector of {weight.n} for weight {weight}", bias, "check its name")
        out = MatrixType(x.rows, weight.n, DType.BF16 if self.narrow else DType.F32)
        if residual is not None:
            expect_same_rows(self, (x, residual))
            fits = residual.columns == weight.n
            expect(self, fits, f"a residual of {weight.n} columns", residual, "add the same features")
        return out, MatrixType(x.rows, self.check_parts(parts, weight.n, weight.k))

    def flops(self, sizes: Sizes, x: MatrixType, weight: AnyWeight, **others: Any) -> float:
        own: int = sum(a.size + b.size for _, a, b in self.parts(others))
        return 2.0 * sizes[x.rows] * (weight.n * weight.k + own)

    def reference(
        self, x: Array, weight: Array, bias: Array | None = None, **parts: Array
    ) -> tuple[Array, Array]:
        out = x @ weight.T
        out = out if bias is None else out + bias
        lows = []
        for first, a, b in self.parts(parts):
            lows.append(self.factor * (x @ a.T))
            out[:, first : first + len(b)] += lows[-1] @ b.T
        return out, np.concatenate(lows, axis=1)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.adapted_linear_input_grad import adapted_linear_input_grad
        from weft.ops.adapted_linear_weight_grad import adapted_linear_weight_grad
        from weft.ops.linear_weight_grad import linear_weight_grad

        operands, d_out = call.operands, call.d_outputs[0]
        parts = [LayerAdapter(*part) for part in self.parts(operands)]
        gradients: dict[str, Matrix] = {}
        if call.wants("x"):
            sum_, weight = call.take_sum("x"), operands["weight"]
            gradients["x"], d_low = adapted_linear_input_grad(
                d_out, weight, parts, self.factor, sum_, self.compute
            )
        else:
            d_low = _low_gradient(d_out, parts, self.factor, self.compute)
        if (d_weight := call.tensor_grad("weight")) is not None:
            linear_weight_grad(operands["x"], d_out, d_weight, call.tensor_grad("bias"), self.compute)
        names = [f"{name}{index}" for index in range(len(parts)) for name in "ab"]
        d_parts = {f"d_{name}": call.tensor_grad(name) for name in names}
        adapted_linear_weight_grad(self, operands["x"], d_out, call.outputs[1], d_low, d_parts)
        return gradients


def _low_gradient(d_out: Any, parts: Sequence[LayerAdapter], factor: float, compute: str) -> Matrix:
    from weft.ops.linear_input_grad import linear_input_grad

    columns = [(part.first, part.b.type.n) for part in parts]  # type: ignore[union-attr]
    lows = [
        scale(linear_input_grad(d_out.columns(*of_part), part.b, None, compute), factor)
        for part, of_part in zip(parts, columns, strict=True)
    ]
    return lows[0] if len(lows) == 1 else concat(*lows)


def part_arguments(parts: Sequence[LayerAdapter]) -> tuple[list[int], dict[str, Operand]]:
    """The first columns and the operands of `parts`."""
    firsts = [part.first for part in parts]
    operands = {f"a{index}": part.a for index, part in enumerate(parts)}
    return firsts, operands | {f"b{index}": part.b for index, part in enumerate(parts)}


def adapted_linear(
    x: Matrix, weight: Operand, parts: Sequence[LayerAdapter], factor: float, bias: Operand | None = None
) -> Matrix:
    """Records `x` f32[rows, K] times the transpose of `weight` [N, K], plus `bias`; each of `parts` adds
    factor · x · aᵀ · bᵀ to its columns; gives f32[rows, N].
    """
    firsts, operands = part_arguments(parts)
    op = AdaptedLinear(factor, x.recorder.compute, *firsts)
    return record(op, x=x, weight=weight, bias=bias, **operands)[0]
