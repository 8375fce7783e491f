"""Vectors and their targets as batches of a training run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weft.train.data.read_vectors import VectorTable
from weft.train.data.split import HELD_OUT_STREAM, permutation
from weft.types import Array


@dataclass(frozen=True)
class VectorSlice:
    """Rows that a plan runs at once: of the samples x f32[samples, inputs] and targets f32[samples, outputs],
    which the compute threads gather, those numbered rows i32[rows, 1]; loss_weights f32[rows, 1] is each
    row's share in the loss of the whole step.
    """

    x: Array
    targets: Array
    rows: Array
    loss_weights: Array

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    def inputs(self) -> dict[str, Array]:
        """The arrays by name."""
        return dict(vars(self))


class VectorBatches:
    """Batches of `rows_per_step` rows; every epoch takes each row once, in an order of its own. The number of
    a step is all that resuming needs. For one thread.
    """

    def __init__(self, table: VectorTable, rows_per_step: int, rows_per_slice: int, seed: int) -> None:
        self._table = table
        self._rows_per_step = rows_per_step
        self._rows_per_slice = rows_per_slice
        self._seed = seed
        self._orders: dict[int, Array] = {}

    def __call__(self, step: int) -> list[VectorSlice]:
        """The slices of step number `step`, counted from 0."""
        rows = np.arange(step * self._rows_per_step, (step + 1) * self._rows_per_step)
        epochs, places = np.divmod(rows, len(self._table))
        chosen = np.concatenate([self._order(epoch)[places[epochs == epoch]] for epoch in np.unique(epochs)])
        return make_slices(self._table, chosen, self._rows_per_slice)

    def epoch(self, step: int) -> float:
        """Epochs that are done when `step` steps are."""
        return step * self._rows_per_step / len(self._table)

    def _order(self, epoch: int) -> Array:
        if epoch not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known >= epoch - 1}
            self._orders[epoch] = permutation(len(self._table), self._seed, epoch)
        return self._orders[epoch]


def make_slices(table: VectorTable, chosen: Array, rows_per_slice: int) -> list[VectorSlice]:
    """Slices of the rows numbered `chosen` i64[n]; the weights of all of them together sum to 1."""
    weight = np.float32(1.0 / max(len(chosen), 1))
    rows, weights = chosen.astype(np.int32)[:, None], np.full((len(chosen), 1), weight)
    parts = [slice(first, first + rows_per_slice) for first in range(0, len(chosen), rows_per_slice)]
    return [VectorSlice(table.x, table.y, rows[part], weights[part]) for part in parts]


def split_table(table: VectorTable, share: float, seed: int) -> tuple[VectorTable, VectorTable | None]:
    """Rows to train on, and about `share` of all to hold out; which, depends on their number and the seed."""
    count = min(round(len(table) * share), len(table) - 1)
    if share <= 0 or count < 1:
        return table, None
    order = permutation(len(table), seed, HELD_OUT_STREAM)
    return _rows(table, np.sort(order[count:])), _rows(table, np.sort(order[:count]))


def _rows(table: VectorTable, rows: Array) -> VectorTable:
    return VectorTable(table.x[rows], table.y[rows], table.inputs, table.targets)


def table_key(tables: Sequence[VectorTable]) -> str:
    """Names the content of tables: what a run that is resumed must find again."""
    digest = hashlib.blake2b(digest_size=20)
    for table in tables:
        digest.update(repr((table.inputs, table.targets, table.x.shape)).encode())
        digest.update(table.x.data)
        digest.update(table.y.data)
    return digest.hexdigest()
