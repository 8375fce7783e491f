"""dropout: some features of each row set to zero, by counted random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import (
    BackwardCall,
    Matrix,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
)
from weft.ops.philox import uniform
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class Dropout(Operation):
    """out[r, c] = x[r, c] / (1 − rate) where u ≥ rate, else 0, with u = uniform(seed, stream, position) of
    Philox at position row_ids[r] · D + c, the 64-bit seed from two words, low first.

    x f32[rows, D], row_ids i64[rows, 1], seed u32[seed, 2] (one row) → out f32[rows, D]. Row ids say which
    token of the training a row is, so that the draw does not depend on slices. Srivastava et al., 2014.
    """

    rate: float
    stream: int

    name = "dropout"
    operands = (matrix("x"), matrix("row_ids", DType.I64), matrix("seed", DType.U32))
    in_place_of = ("x",)

    def shape(self, x: MatrixType, row_ids: MatrixType, seed: MatrixType) -> MatrixType:
        expect_same_rows(self, (x, row_ids))
        expect(self, 0 <= self.rate < 1, "a rate from 0 to below 1", self.rate, "choose another")
        expect(self, row_ids.columns == 1, "row_ids of one column", row_ids, "pass one a row")
        expect(self, seed.columns == 2, "a seed of two words", seed, "pass low, then high")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, **others: object) -> float:
        return 2.0 * sizes[x.rows] * x.columns

    def reference(self, x: Array, row_ids: Array, seed: Array) -> Array:
        number = int(seed[0, 0]) | int(seed[0, 1]) << 32
        positions = row_ids.astype(object) * x.shape[1] + np.arange(x.shape[1])
        drawn = np.array([[uniform(number, self.stream, int(p)) for p in row] for row in positions])
        kept = drawn.reshape(x.shape) >= self.rate
        return np.where(kept, x / (1 - self.rate), 0).astype(x.dtype)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        rest = {name: call.operands[name] for name in ("row_ids", "seed")}
        (d_x,) = record(self, x=call.d_outputs[0], **rest)
        return {"x": d_x}


def dropout(x: Matrix, row_ids: Matrix, seed: Matrix, rate: float, stream: int) -> Matrix:
    """Records dropout of `x` f32[rows, D]; the same op on the gradient is its backward rule."""
    (out,) = record(Dropout(rate, stream), x=x, row_ids=row_ids, seed=seed)
    return out
