"""rotary: positions as rotations of pairs of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

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
from weft.types import AnyVector, Array, DType, MatrixType


@dataclass(frozen=True)
class Rotary(Operation):
    """Rotates the pair (i, i + rotary_dim / 2) of each head by the angle positions[r] · inv_freq[i].

    x f32[rows, heads · head_dim], positions i32[rows, 1], inv_freq f32[rotary_dim / 2] → out like x.
    Features of a head from rotary_dim on stay as they are; cosine and sine are multiplied by
    `attention_scale` (YaRN); `inverse` (1 or 0) rotates back, which is its gradient.
    Su et al., 2021, with the halves of a head as pairs, as in Hugging Face files.
    """

    heads: int
    head_dim: int
    rotary_dim: int
    attention_scale: float = 1.0
    inverse: int = 0

    name = "rotary"
    operands = (matrix("x"), matrix("positions", DType.I32), vector("inv_freq"))
    row_wise = True
    in_place_of = ("x",)

    def shape(self, x: MatrixType, positions: MatrixType, inv_freq: AnyVector) -> MatrixType:
        expect_same_rows(self, (x, positions))
        expect(self, positions.columns == 1, "positions of one column", positions, "pass one position a row")
        width = self.heads * self.head_dim
        expect(
            self,
            x.columns == width,
            f"{self.heads} heads × {self.head_dim} columns",
            x,
            "split q from k first",
        )
        inside = 0 < self.rotary_dim <= self.head_dim and self.rotary_dim % 2 == 0
        expect(
            self,
            inside,
            f"an even rotary_dim of at most {self.head_dim}",
            self.rotary_dim,
            "correct the model",
        )
        fits = inv_freq.size * 2 == self.rotary_dim
        expect(self, fits, f"{self.rotary_dim // 2} frequencies", inv_freq, "compute them for rotary_dim")
        return x

    def flops(self, sizes: Sizes, x: MatrixType, positions: MatrixType, inv_freq: AnyVector) -> float:
        return 3.0 * sizes[x.rows] * self.heads * self.rotary_dim

    def reference(self, x: Array, positions: Array, inv_freq: Array) -> Array:
        angles = positions.astype(x.dtype) * inv_freq.astype(x.dtype)
        cosine = np.cos(angles)[:, None, :] * self.attention_scale
        sine = np.sin(angles)[:, None, :] * (-self.attention_scale if self.inverse else self.attention_scale)
        out = x.reshape(len(x), self.heads, self.head_dim).copy()
        half = self.rotary_dim // 2
        first, second = out[..., :half].copy(), out[..., half : self.rotary_dim].copy()
        out[..., :half] = first * cosine - second * sine
        out[..., half : self.rotary_dim] = second * cosine + first * sine
        return np.asarray(out.reshape(x.shape))

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        rest = {name: call.operands[name] for name in ("positions", "inv_freq")}
        (d_x,) = record(replace(self, inverse=1 - self.inverse), x=call.d_outputs[0], **rest)
        return {"x": d_x}


def rotary(
    x: Matrix,
    positions: Matrix,
    inv_freq: Operand,
    heads: int,
    head_dim: int,
    rotary_dim: int | None = None,
    attention_scale: float = 1.0,
) -> Matrix:
    """Records the rotation of `x` f32[rows, heads · head_dim] to `positions` i32[rows, 1]; gives the same
    shape.
    """
    op = Rotary(heads, head_dim, rotary_dim or head_dim, attention_scale)
    (out,) = record(op, x=x, positions=positions, inv_freq=inv_freq)
    return out
