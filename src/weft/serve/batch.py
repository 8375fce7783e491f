"""The arrays of one step: what the rows are, where they go in the cache, and whose logits are wanted.

Running requests have seats: row s of the tables here belongs to the request on seat s. Tables and inputs are
allocated once, so that a step fills a few slices, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as List

import numpy as np

from weft.serve.sequence import Sequence
from weft.types import BLOCK_TOKENS, Array

_NO_DRAFTS: Mapping[int, List[int]] = {}


class Seats:
    """What each running request needs in every step, as columns of arrays.

    token, position i32[seats]: the newest token, not yet computed, and its place in the text.
    adapter i32[seats]: the request's adapter, 0 for none.
    table i32[seats, max_blocks]: the request's blocks in the cache, of block_tokens tokens each; num_blocks
    i32[seats] of them are valid.
    """

    def __init__(self, num_seats: int, max_blocks: int, block_tokens: int = BLOCK_TOKENS) -> None:
        self.block_tokens = block_tokens
        self.token = np.zeros(num_seats, np.int32)
        self.position = np.zeros(num_seats, np.int32)
        self.num_blocks = np.zeros(num_seats, np.int32)
        self.adapter = np.zeros(num_seats, np.int32)
        self.table = np.zeros((num_seats, max_blocks), np.int32)
        self._free = list(range(num_seats - 1, -1, -1))
        self.highest = 0  # seats at or above it have never been taken

    @property
    def num_free(self) -> int:
        """Seats without a request."""
        return len(self._free)

    def take(self, sequence: Sequence) -> None:
        """Seats `sequence`, whose blocks are allocated."""
        seat = sequence.seat = self._free.pop()
        self.highest = max(self.highest, seat + 1)
        self.adapter[seat] = sequence.adapter
        self.num_blocks[seat] = len(sequence.blocks)
        self.table[seat, : len(sequence.blocks)] = sequence.blocks

    def add_block(self, sequence: Sequence, block: int) -> None:
        """Gives the seated `sequence` one more block."""
        self.table[sequence.seat, len(sequence.blocks)] = block
        sequence.blocks.append(block)
        self.num_blocks[sequence.seat] = len(sequence.blocks)

    def leave(self, sequence: Sequence) -> None:
        """Frees the seat of `sequence`."""
        self._free.append(sequence.seat)
        sequence.seat = -1


class Batch:
    """The inputs of one step, as slices of arrays that are made once. Names as in `weft.models.layers.Step`.

    The first rows are those of decoding requests, each with its draft; then the prompt chunks in turn.
    `output_rows` are the decoding rows, then the last rows of chunks that end their prompt (for scores: every
    row with a target).
    """

    def __init__(self, max_rows: int, max_outputs: int, seats: Seats) -> None:
        self._seats = seats
        num_seats, self._max_blocks = seats.table.shape
        self._tokens = np.zeros((max_rows, 1), np.int32)
        self._positions = np.zeros((max_rows, 1), np.int32)
        self._slots = np.zeros((max_rows, 1), np.int32)
        self._adapters = np.zeros((max_rows, 1), np.int32)
        self._sequences = np.zeros((max(max_rows, num_seats), 4), np.int32)
        self._output_rows = np.zeros((max_outputs, 1), np.int32)
        self._output_seats = np.zeros(max_outputs, np.int64)
        self._output_positions = np.zeros(max_outputs, np.int32)
        self._targets = np.zeros((max_outputs, 1), np.int32)
        self._all_blocks = seats.table.reshape(-1, 1)
        self._count = np.arange(max(max_rows, num_seats), dtype=np.int32)
        self.num_rows = self.num_sequences = self.num_outputs = self.num_known = 0

    def clear(self) -> None:
        """Begins a step without rows."""
        self.num_rows = self.num_sequences = self.num_outputs = self.num_known = 0

    def add_decoding(self, seats: Array, drafts: Mapping[int, List[int]] = _NO_DRAFTS) -> None:
        """One row for each of `seats` i64[n], and one for each token of the draft of its place in `seats`.

        Each asks for the next token. Only at the begin of a step.
        """
        position = self._seats.position[seats]
        sequences = self._sequences[: len(seats)]
        sequences[:, 0] = self._count[: len(seats)]
        sequences[:, 1] = 1
        sequences[:, 2] = position
        sequences[:, 3] = seats * self._max_blocks
        tokens: Array = self._seats.token[seats]
        if drafts:
            counts = np.ones(len(seats), np.int32)
            counts[list(drafts)] = [1 + len(draft) for draft in drafts.values()]
            ends = np.cumsum(counts, dtype=np.int32)
            sequences[:, 0] = firsts = ends - counts
            sequences[:, 1] = counts
            tokens, seats = np.repeat(tokens, counts), np.repeat(seats, counts)
            position = np.repeat(position - firsts, counts) + self._count[: len(seats)]
            for place, draft in drafts.items():
                tokens[firsts[place] + 1 : ends[place]] = draft
        n = self.num_known = len(seats)
        self._tokens[:n, 0] = tokens
        self._output_rows[:n, 0] = self._count[:n]
        self._add_asking(seats, position)
        self.num_sequences = len(sequences)

    def add_chain(self, seats: Array, num_steps: int) -> None:
        """As `add_decoding` for several steps, those of the first first: its tokens alone are known yet."""
        n, total = len(seats), len(seats) * num_steps
        self._tokens[:n, 0] = self._seats.token[seats]
        position = (self._seats.position[seats] + self._count[:num_steps, None]).reshape(-1)
        seats = np.tile(seats, num_steps)
        number = self._count[:total] % n
        sequences = self._sequences[:total]
        sequences[:, 0] = number
        sequences[:, 1] = 1
        sequences[:, 2] = position
        sequences[:, 3] = seats * self._max_blocks
        self._output_rows[:total, 0] = number
        self._add_asking(seats, position)
        self.num_known, self.num_sequences = n, total

    def _add_asking(self, seats: Array, position: Array) -> None:
        """The first rows of the step, at `position` of the texts on `seats`; each asks for the next token."""
        n = self.num_rows = self.num_outputs = len(seats)
        self._positions[:n, 0] = position
        self._slots[:n, 0] = self._slots_of(seats, position)
        self._adapters[:n, 0] = self._seats.adapter[seats]
        self._output_seats[:n] = seats
        self._output_positions[:n] = position + 1

    def add_chunk(self, sequence: Sequence, num_rows: int) -> None:
        """The next `num_rows` known tokens of `sequence`; asks for nothing."""
        begin, end = sequence.num_computed, sequence.num_computed + num_rows
        first = self.num_rows
        positions = np.arange(begin, end, dtype=np.int32)
        rows = slice(first, first + num_rows)
        self._tokens[rows, 0] = sequence.known[begin:end]
        self._positions[rows, 0] = positions
        self._slots[rows, 0] = self._slots_of(sequence.seat, positions)
        self._adapters[rows, 0] = sequence.adapter
        self._sequences[self.num_sequences] = (first, num_rows, begin, sequence.seat * self._max_blocks)
        self.num_rows += num_rows
        self.num_known += num_rows
        self.num_sequences += 1

    def ask_last_row(self, seat: int) -> None:
        """Asks for the next token after the row added last, of the request on `seat`."""
        self._output_rows[self.num_outputs, 0] = self.num_rows - 1
        self._output_seats[self.num_outputs] = seat
        self._output_positions[self.num_outputs] = self._positions[self.num_rows - 1, 0] + 1
        self.num_outputs += 1

    def ask_targets(self, targets: Array) -> None:
        """Asks for the log-probabilities of `targets` i32[n] at the first n rows of the chunk added last."""
        first, end = self.num_outputs, self.num_outputs + len(targets)
        first_row = self._sequences[self.num_sequences - 1, 0]
        self._output_rows[first:end, 0] = first_row + self._count[: len(targets)]
        self._targets[first:end, 0] = targets
        self.num_outputs = end

    def _slots_of(self, seats: Array | int, positions: Array) -> Array:
        """Where `positions` of the texts on `seats` lie in the cache."""
        size = self._seats.block_tokens
        slots: Array = self._seats.table[seats, positions // size] * size + positions % size
        return slots

    @property
    def inputs(self) -> dict[str, Array]:
        """The step's inputs by name; views that hold until the next step. Adapters where a row has one."""
        return {
            **self._numbers_of_adapters,
            "tokens": self._tokens[: self.num_known],
            "positions": self._positions[: self.num_rows],
            "slots": self._slots[: self.num_rows],
            "sequences": self._sequences[: self.num_sequences],
            "block_table": self._all_blocks[: self._seats.highest * self._max_blocks],
            "output_rows": self._output_rows[: self.num_outputs],
        }

    @property
    def _numbers_of_adapters(self) -> dict[str, Array]:
        adapters, output_rows = self._adapters[: self.num_rows], self._output_rows[: self.num_outputs, 0]
        return {"adapters": adapters, "output_adapters": adapters[output_rows]} if adapters.any() else {}

    @property
    def output_seats(self) -> Array:
        """i64[outputs]: the seats of those that ask for a token."""
        return self._output_seats[: self.num_outputs]

    @property
    def output_positions(self) -> Array:
        """i32[outputs]: the places of these tokens in their texts."""
        return self._output_positions[: self.num_outputs]

    @property
    def targets(self) -> Array:
        """i32[outputs, 1]: the tokens whose log-probabilities a score asks for."""
        return self._targets[: self.num_outputs]


def seat_array(sequences: List[Sequence]) -> Array:
    """The seats of `sequences`, i64[n], for indexing."""
    return np.array([sequence.seat for sequence in sequences], np.int64)
