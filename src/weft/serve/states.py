"""What models without attention keep of each text between steps, in place of keys and values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from weft.models.stateful import STATE_PREFIX, WINDOWS
from weft.plan import Plan
from weft.types import Array


class TextStates:
    """The states of recurrent layers and the last words of `num_texts` texts, by the inputs of `plan`.

    A text's row in the arrays is its one block (see `weft.serve.engine.EngineLimits.block_tokens`). Several
    threads may use it at once for different texts. Pages are taken when they are first written.
    """

    def __init__(self, plan: Plan, num_texts: int) -> None:
        self._states = {
            name: np.zeros((num_texts, value.type.columns), np.float32)
            for name, value in plan.inputs.items()
            if name.startswith(STATE_PREFIX)
        }
        window = plan.inputs[WINDOWS].type.columns if WINDOWS in plan.inputs else 1
        self._recent = np.zeros((num_texts, window - 1), np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of all texts, used or not."""
        return self._recent.nbytes + sum(state.nbytes for state in self._states.values())

    def before(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """A step's inputs, with the states of its texts; those at their begin have zeros, and tokens 0."""
        texts, begins = _texts(inputs), inputs["sequences"][:, 2] == 0
        given = dict(inputs)
        for name, states in self._states.items():
            given[name] = np.where(begins[:, None], np.float32(0), states[texts])
        if self._recent.shape[1]:
            recent = np.where(begins[:, None], np.int32(0), self._recent[texts])
            given[WINDOWS], self._recent[texts] = windows(inputs["tokens"], inputs["sequences"], recent)
        return given

    def after(self, inputs: Mapping[str, Array], outputs: dict[str, Array]) -> None:
        """Keeps the states among the outputs of a step, and takes them out."""
        texts = _texts(inputs)
        for name, states in self._states.items():
            states[texts] = outputs.pop(name)


def windows(tokens: Array, sequences: Array, recent: Array) -> tuple[Array, Array]:
    """The last words of each row i32[rows, n + 1], its own token last, and of each text after its rows.

    tokens i32[rows, 1]; sequences i32[texts, …] (first_row, num_rows, …); recent i32[texts, n]: the words of
    each text before its first row.
    """
    num_texts, before = recent.shape
    first, count = sequences[:, 0].astype(np.int64), sequences[:, 1].astype(np.int64)
    # Each text's words lie behind each other: those before the step, then its rows.
    begin = first + np.arange(num_texts) * before
    words = np.empty(len(tokens) + num_texts * before, np.int32)
    words[begin[:, None] + np.arange(before)] = recent
    own = np.arange(len(tokens)) + np.repeat(np.arange(1, num_texts + 1) * before, count)
    words[own] = tokens[:, 0]
    end = begin + before + count
    return words[own[:, None] + np.arange(-before, 1)], words[end[:, None] + np.arange(-before, 0)]


def _texts(inputs: Mapping[str, Array]) -> Array:
    """The row of each text of a step: the first of its blocks."""
    texts: Array = inputs["block_table"][inputs["sequences"][:, 3], 0]
    return texts
