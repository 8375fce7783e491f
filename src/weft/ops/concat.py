"""concat: matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import BackwardCall, Matrix, Operation, Sizes, expect_same_rows, matrix, record
from weft.types import Array, MatrixType

MAX_PARTS = 4


@dataclass(frozen=True)
class Concat(Operation):
    """out = [part0, part1, …], up to four matrices f32[rows, …] → out f32[rows, sum of their columns]."""

    name = "concat"
    operands = tuple(matrix(f"part{index}", optional=index > 0) for index in range(MAX_PARTS))
    row_wise = True
    side_by_side = True

    def shape(self, **parts: MatrixType) -> MatrixType:
        expect_same_rows(self, list(parts.values()))
        return MatrixType(parts["part0"].rows, sum(part.columns for part in parts.values()))

    def flops(self, sizes: Sizes, **parts: MatrixType) -> float:
        return 0.0

    def reference(self, **parts: Array) -> Array:
        return np.concatenate([parts[name] for name in sorted(parts)], axis=1)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        names = sorted(call.operands)
        columns = [call.operands[name].type.columns for name in names]
        return dict(zip(names, call.d_outputs[0].split(*columns), strict=True))


def concat(*parts: Matrix) -> Matrix:
    """Records `parts`, f32[rows, …] each, side by side."""
    (out,) = record(Concat(), **{f"part{index}": part for index, part in enumerate(parts)})
    return out
