"""Slices: the parts of a step's batch that a plan runs, one after another or on a team each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from weft.train.data.pack import PackedRows
from weft.types import Array


@dataclass(frozen=True)
class Slice:
    """Sequences one after another, as inputs of a plan.

    tokens, targets, positions: i32[rows, 1], the token of each row, the one after it, and its place in its
    sequence. loss_weights f32[rows, 1]: a row's share in the loss of the whole step; 0 where its target is
    part of a prompt. sequences i32[sequences, 2]: first row and number of rows of each. row_ids i64[rows, 1]:
    a number for each row that no other row of the run has, for random numbers.
    """

    tokens: Array
    targets: Array
    positions: Array
    loss_weights: Array
    sequences: Array
    row_ids: Array

    @property
    def num_rows(self) -> int:
        return len(self.tokens)

    @property
    def num_trained(self) -> int:
        """Rows that count in the loss."""
        return int(np.count_nonzero(self.loss_weights))

    def inputs(self) -> dict[str, Array]:
        """The arrays by name."""
        return dict(vars(self))


class AnySlice(Protocol):
    """A part of a step's batch, of tokens or of vectors."""

    @property
    def loss_weights(self) -> Array:
        """f32[rows, 1]: a row's share in the loss of the whole step."""

    @property
    def num_rows(self) -> int:
        """Rows of it."""

    def inputs(self) -> dict[str, Array]:
        """The arrays that a plan takes, by name."""


@dataclass(frozen=True)
class SliceResult:
    """What a slice gave, over the rows that count in the loss.

    loss_sum: sum of their losses. num_tokens: how many there are. num_correct: those whose target was the
    likeliest token; None of vectors.
    """

    loss_sum: float
    num_tokens: int
    num_correct: int | None = None


def make_slices(
    rows: PackedRows, chosen: Sequence[int], rows_per_slice: int, first_id: int = 0
) -> list[Slice]:
    """Slices of the packed rows numbered `chosen`, so many in each; together they make a step.

    The weights of all slices' rows together sum to 1. first_id: the first of the step's row ids.
    """
    parts = [_gather(rows, chosen[i : i + rows_per_slice]) for i in range(0, len(chosen), rows_per_slice)]
    num_trained = sum(int(trained.sum()) for _, _, _, trained, _ in parts)
    weight = np.float32(1.0 / max(num_trained, 1))
    slices: list[Slice] = []
    for tokens, targets, positions, trained, sequences in parts:
        ids = np.arange(first_id, first_id + len(tokens), dtype=np.int64)
        first_id += len(tokens)
        slices.append(
            Slice(
                tokens[:, None],
                targets[:, None],
                positions[:, None],
                (trained * weight)[:, None],
                sequences,
                ids[:, None],
            )
        )
    return slices


def _gather(rows: PackedRows, chosen: Sequence[int]) -> tuple[Array, Array, Array, Array, Array]:
    pieces = [rows.pieces(row) for row in chosen]
    begin = np.concatenate([first for first, _ in pieces])
    size = np.concatenate([count for _, count in pieces])
    first_row = np.cumsum(size) - size
    positions = np.arange(int(size.sum()), dtype=np.int64) - np.repeat(first_row, size)
    places = np.repeat(begin, size) + positions
    sequences = np.stack([first_row, size], axis=1).astype(np.int32)
    data = rows.data
    return (
        data.tokens[places],
        data.tokens[places + 1],
        positions.astype(np.int32),
        data.trained[places + 1].astype(np.float32),
        sequences,
    )
