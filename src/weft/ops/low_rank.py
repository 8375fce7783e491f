"""low_rank: what low-rank adapters add to a linear layer, each row by its own adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from weft.ops.operation import (
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

MAX_RANK = 1024


@dataclass(frozen=True)
class LowRankSegment:
    """A linear layer of one adapter: `columns` columns of the output from `first_column` on, in runs of `run`
    columns every `stride` of them. adapter: its number, from 1 on.
    """

    adapter: int
    rank: int
    first_column: int
    columns: int
    run: int
    stride: int

    def places(self) -> Array:
        """The output's columns, i64[columns]."""
        runs = np.arange(self.columns // self.run) * self.stride
        return (self.first_column + runs[:, None] + np.arange(self.run)).reshape(-1)


@dataclass(frozen=True)
class LowRank(Operation):
    """out = base; for the rows of adapter i, and each of its segments: out[columns] += (x · Aᵀ) · B.

    x f32[rows, K], base f32[rows, N], adapters i32[rows, 1] (0: none), a and b the A f32[rank, K] and B
    f32[rank, columns] of all segments one after another, segments their fields → out f32[rows, N].
    """

    num_adapters: int
    num_segments: int

    name = "low_rank"
    operands = (
        matrix("x"),
        matrix("base"),
        matrix("adapters", DType.I32),
        vector("a"),
        vector("b"),
        vector("segments"),
    )
    row_wise = True
    in_place_of = ("base",)

    def shape(
        self,
        x: MatrixType,
        base: MatrixType,
        adapters: MatrixType,
        a: AnyVector,
        b: AnyVector,
        segments: AnyVector,
    ) -> MatrixType:
        expect_same_rows(self, (x, base, adapters))
        expect(self, a.size % x.columns == 0, f"rows of {x.columns} numbers in a", a, "check the adapter")
        size = self.num_segments * len(fields(LowRankSegment))
        expect(self, segments.size == size, f"{size} fields of segments", segments, "pass all of them")
        return base

    def flops(self, sizes: Sizes, x: MatrixType, a: AnyVector, b: AnyVector, **others: object) -> float:
        # A row has one adapter at most.
        return 2.0 * sizes[x.rows] * (a.size + b.size) / self.num_adapters

    def reference(self, x: Array, base: Array, adapters: Array, a: Array, b: Array, segments: Array) -> Array:
        out = base.copy()
        first_rank = first_b = 0
        down = a.reshape(-1, x.shape[1])
        for segment in _segments(segments):
            rank, columns = segment.rank, segment.columns
            rows = np.flatnonzero(adapters[:, 0] == segment.adapter)
            up = b[first_b : first_b + rank * columns].reshape(rank, columns)
            low = x[rows] @ down[first_rank : first_rank + rank].T
            out[np.ix_(rows, segment.places())] += low @ up
            first_rank, first_b = first_rank + rank, first_b + rank * columns
        return out


def low_rank(
    x: Matrix, base: Matrix, adapters: Matrix, a: Operand, b: Operand, segments: Operand, num_adapters: int
) -> Matrix:
    """Records what adapters add to `base` f32[rows, N] for `x` f32[rows, K]; see `LowRank` for the others."""
    count = segments.type.size // len(fields(LowRankSegment))  # type: ignore[union-attr]
    op = LowRank(num_adapters, count)
    (out,) = record(op, x=x, base=base, adapters=adapters, a=a, b=b, segments=segments)
    return out


def segment_fields(segments: Sequence[LowRankSegment]) -> Array:
    """The operand `segments`, f32[segments · fields]."""
    return np.array(
        [[getattr(segment, field.name) for field in fields(segment)] for segment in segments], np.float32
    ).reshape(-1)


def _segments(values: Array) -> Iterator[LowRankSegment]:
    for row in values.reshape(-1, len(fields(LowRankSegment))):
        yield LowRankSegment(*(int(value) for value in row))
