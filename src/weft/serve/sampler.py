"""The inputs of the `sample` operation for each step; native/ops/sample.h says what each column means."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as List

import numpy as np

from weft.ops.sample import INT_SETTINGS, REAL_SETTINGS
from weft.serve.masks import MaskTable
from weft.serve.sampling import SamplingParams
from weft.serve.sequence import Sequence
from weft.types import Array

_POSITION = INT_SETTINGS.index("position")
_NUM_TOP = INT_SETTINGS.index("num_top_log_probs")
_HISTORY = slice(INT_SETTINGS.index("history_begin"), INT_SETTINGS.index("history_end") + 1)
_HISTORY_END = INT_SETTINGS.index("history_end")
_BIAS = slice(INT_SETTINGS.index("bias_begin"), INT_SETTINGS.index("bias_end") + 1)
_MASK = slice(INT_SETTINGS.index("mask_begin"), INT_SETTINGS.index("mask_end") + 1)

_NO_IDS: Array = np.zeros((0, 1), np.int32)
_NO_VALUES: Array = np.zeros((0, 1), np.float32)
_NO_WORDS: Array = np.zeros((0, 1), np.uint32)

_NO_DRAFTS: Mapping[Sequence, List[int]] = {}
_LIKELIEST = SamplingParams(temperature=0.0)


class Sampler:
    """Keeps the settings of each seat as rows, so that a step gathers them whatever the batch."""

    def __init__(self, num_seats: int, max_outputs: int, masks: MaskTable | None = None) -> None:
        self._masks = masks
        self._real = np.zeros((num_seats, len(REAL_SETTINGS)), np.float32)
        self._ints = np.zeros((num_seats, len(INT_SETTINGS)), np.int32)
        self._is_ragged = np.zeros(num_seats, bool)  # has a history or biases
        self._real_inputs = np.zeros((max_outputs, len(REAL_SETTINGS)), np.float32)
        self._int_inputs = np.zeros((max_outputs, len(INT_SETTINGS)), np.int32)

    def seat(self, sequence: Sequence) -> None:
        """Takes the settings of a request that now has a seat."""
        params = sequence.params
        self._real[sequence.seat] = [getattr(params, name) for name in REAL_SETTINGS]
        ints = {
            "top_k": params.top_k,
            "wants_log_prob": int(params.wants_logprobs),
            "num_top_log_probs": params.num_alternatives,
            "seed_low": _signed(sequence.seed),
            "seed_high": _signed(sequence.seed >> 32),
            "stream": _signed(sequence.stream),
        }
        if sequence.matcher is not None:
            assert self._masks is not None, "constraints need masks"
            ints["mask_begin"] = self._masks.begin_of_seat(sequence.seat)
            ints["mask_end"] = ints["mask_begin"] + self._masks.row_words
        self._ints[sequence.seat] = [ints.get(name, 0) for name in INT_SETTINGS]
        self._is_ragged[sequence.seat] = params.penalizes or params.logit_bias is not None

    def inputs(
        self,
        sequences: List[Sequence],
        seats: Array,
        positions: Array,
        drafts: Mapping[Sequence, List[int]] = _NO_DRAFTS,
    ) -> dict[str, Array]:
        """Inputs to sample a token for each of `sequences` on `seats`, at `positions` i32[n] of their texts.

        A request of `drafts` has a row for each token of its draft besides, right after its own. The views
        hold until the next step.
        """
        n = len(seats)
        real, ints = self._real_inputs[:n], self._int_inputs[:n]
        self._real.take(seats, axis=0, out=real)
        self._ints.take(seats, axis=0, out=ints)
        ints[:, _POSITION] = positions
        ragged = _Ragged()
        if self._is_ragged[seats].any():
            self._fill_ragged(sequences, ints, ragged, drafts)
        if any(sequence.matcher is not None for sequence in drafts):
            self._mask_drafts(sequences, ints)
        masks = _NO_WORDS if self._masks is None else self._masks.words
        return {"real_settings": real, "int_settings": ints, **ragged.inputs(), "mask_words": masks}

    def ranking_inputs(self, num_rows: int, num_alternatives: int) -> dict[str, Array]:
        """Inputs to rank tokens at `num_rows` places without drawing. The views hold until the next step."""
        real, ints = self._real_inputs[:num_rows], self._int_inputs[:num_rows]
        real[:] = [getattr(_LIKELIEST, name) for name in REAL_SETTINGS]
        ints[:] = 0
        ints[:, _NUM_TOP] = num_alternatives
        return {"real_settings": real, "int_settings": ints, **_Ragged().inputs()}

    def _mask_drafts(self, sequences: List[Sequence], ints: Array) -> None:
        """Has each row of a constrained request's draft read the mask of its own."""
        assert self._masks is not None
        before = None
        for row, sequence in enumerate(sequences):
            if sequence is before and sequence.matcher is not None:
                begin = self._masks.begin_of_output(row)
                ints[row, _MASK] = begin, begin + self._masks.row_words
            before = sequence

    def _fill_ragged(
        self,
        sequences: List[Sequence],
        ints: Array,
        ragged: _Ragged,
        drafts: Mapping[Sequence, List[int]],
    ) -> None:
        before = None
        for row, sequence in enumerate(sequences):
            if sequence is before:  # a row of its draft: the same, but for a text longer by a token
                ints[row, _HISTORY] = ints[row - 1, _HISTORY]
                ints[row, _HISTORY_END] += int(sequence.params.penalizes)
                ints[row, _BIAS] = ints[row - 1, _BIAS]
                continue
            before = sequence
            if sequence.params.penalizes:
                ints[row, _HISTORY] = ragged.add_history(sequence, drafts.get(sequence, ()))
            if sequence.params.logit_bias is not None:
                ints[row, _BIAS] = ragged.add_bias(sequence.params.logit_bias)


class _Ragged:
    """The parts of the rows' ragged inputs, one after another."""

    def __init__(self) -> None:
        self._histories: list[Array] = []
        self._ids: list[int] = []
        self._values: list[float] = []
        self._num_history = 0

    def add_history(self, sequence: Sequence, draft: List[int]) -> tuple[int, int, int]:
        """Where prompt and answer of `sequence` begin and end; its draft follows."""
        begin, tokens = self._num_history, sequence.tokens()
        self._histories.append(tokens)
        if draft:
            self._histories.append(np.array(draft, np.int32))
        self._num_history += len(tokens) + len(draft)
        return begin, begin + len(sequence.prompt), begin + len(tokens)

    def add_bias(self, bias: object) -> tuple[int, int]:
        """Where the biases begin and end."""
        assert isinstance(bias, dict)
        begin = len(self._ids)
        self._ids.extend(bias.keys())
        self._values.extend(bias.values())
        return begin, len(self._ids)

    def inputs(self) -> dict[str, Array]:
        """history, bias_ids, bias_values and mask_words, each of one column."""
        return {
            "history": np.concatenate(self._histories)[:, None] if self._histories else _NO_IDS,
            "bias_ids": np.array(self._ids, np.int32)[:, None] if self._ids else _NO_IDS,
            "bias_values": np.array(self._values, np.float32)[:, None] if self._ids else _NO_VALUES,
            "mask_words": _NO_WORDS,
        }


def _signed(number: int) -> int:
    """The low 32 bits of `number`, as the i32 with these bits."""
    low = number & 0xFFFFFFFF
    return low - (1 << 32) if low >= 1 << 31 else low
