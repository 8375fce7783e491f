"""Packs documents into rows of a fixed number of tokens; a row remembers where its documents begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.train.data.token_cache import TokenData
from weft.types import Array

_OPEN_ROWS = 32  # that an example may still be put into


@dataclass(frozen=True)
class PackedRows:
    """Rows of at most `length` (input, target) pairs, each one or more pieces of documents.

    Piece p has the inputs tokens[begin[p] : begin[p] + size[p]], and their targets one further on. Row r has
    the pieces order[first[r] : first[r + 1]]. num_cut: tokens of examples beyond the length, left out.
    """

    data: TokenData
    length: int
    begin: Array
    size: Array
    first: Array
    num_cut: int = 0

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def num_tokens(self) -> int:
        """Inputs of all rows together."""
        return int(self.size.sum())

    def pieces(self, row: int) -> tuple[Array, Array]:
        """Begin and size of each piece of a row."""
        chosen = slice(self.first[row], self.first[row + 1])
        return self.begin[chosen], self.size[chosen]


def pack_rows(data: TokenData, spans: Array, length: int) -> PackedRows:
    """Packs the token ranges `spans` i64[documents, 2] of `data` into rows of `length` inputs.

    Plain text is cut wherever a row is full; an example with a prompt stays whole in the first row with room
    for it, and loses what is beyond the length. Text comes first, then examples.
    """
    documents = np.searchsorted(data.starts, spans[:, 0], side="right") - 1
    whole = data.keep_whole[documents].astype(bool)
    long_enough = spans[:, 1] - spans[:, 0] >= 2
    text = _pack_text(spans[~whole & long_enough], length)
    examples, num_cut = _pack_examples(spans[whole & long_enough], length)
    begin = np.concatenate([text[0], examples[0]])
    size = np.concatenate([text[1], examples[1]])
    first = np.concatenate([text[2], examples[2][1:] + len(text[0])])
    return PackedRows(data, length, begin, size, first, num_cut)


_Pieces = tuple[Array, Array, Array]


def _pack_text(spans: Array, length: int) -> _Pieces:
    """Begin and size of the pieces of full rows, and the first piece of each row."""
    # Lay the inputs of all documents on one line, and cut it where a document or a row ends.
    ends = np.cumsum(spans[:, 1] - spans[:, 0] - 1)
    starts = ends - (spans[:, 1] - spans[:, 0] - 1)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.concatenate([starts, np.arange(0, total, length, dtype=np.int64)]))
    sizes = np.diff(np.append(cuts, total))
    owner = np.searchsorted(starts, cuts, side="right") - 1
    begin = spans[owner, 0] + cuts - starts[owner] if total else np.zeros(0, np.int64)
    row_starts = np.searchsorted(cuts, np.arange(0, total, length, dtype=np.int64))
    return begin, sizes, np.append(row_starts, len(cuts))


def _pack_examples(spans: Array, length: int) -> tuple[_Pieces, int]:
    """The same for examples that stay whole, by first fit over the latest rows; and the tokens cut off."""
    rows: list[list[tuple[int, int]]] = []
    room: list[int] = []
    num_cut = 0
    for begin, end in spans.tolist():
        size = min(end - begin - 1, length)
        num_cut += end - begin - 1 - size
        oldest = max(0, len(rows) - _OPEN_ROWS)
        row = next((index for index in range(oldest, len(rows)) if room[index] >= size), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(length)
        rows[row].append((begin, size))
        room[row] -= size
    pieces = np.array([piece for row in rows for piece in row], np.int64).reshape(-1, 2)
    first = np.cumsum([0, *(len(row) for row in rows)])
    return (pieces[:, 0], pieces[:, 1], first), num_cut
