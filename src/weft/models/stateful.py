"""The step of generation for models without attention: each text goes on from a state, not from a cache.

A recurrent layer takes the state in which a text's earlier rows left it and gives that after this step's
rows; a model of a window takes of each row the last words. Both are inputs of a run, one row a text, that
whoever runs the plan keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from weft import ops
from weft.ops import Matrix
from weft.ops.operation import Operand
from weft.plan import Recorder
from weft.types import OUTPUTS, SEQUENCES, DType

STATE_PREFIX = "state."
"""Input "state.N" f32[sequences, …] is layer N's before a step; the output of that name is it afterwards."""
WINDOWS = "windows"
"""Input of a model of a window, i32[rows, window]: the last words of each row's text, its own token last."""


class RecurrentStep(Protocol):
    """What a model without attention needs of a step: generation's, or training's."""

    @property
    def tokens(self) -> Matrix:
        """i32[rows, 1]: each row's token."""

    def lstm(self, layer: int, x_gates: Matrix, weight: Operand) -> Matrix:
        """Records a recurrent layer over x_gates f32[rows, 4H], within each text; gives h f32[rows, H]."""

    def wanted_rows(self, h: Matrix) -> Matrix:
        """Records the rows of `h` f32[rows, H] whose next token is asked for."""


@dataclass(frozen=True)
class StatefulStep:
    """The inputs of a step, by the names that a run passes: see `weft.models.layers.CachedStep`.

    sequences i32[sequences, 4] as the cache's; of them the first two columns count here.
    """

    recorder: Recorder
    tokens: Matrix
    sequences: Matrix
    output_rows: Matrix

    def lstm(self, layer: int, x_gates: Matrix, weight: Operand) -> Matrix:
        """A recurrent layer over these rows, h f32[rows, H], from each text's state on."""
        name, columns = f"{STATE_PREFIX}{layer}", x_gates.type.columns // 2
        state = self.recorder.input(name, SEQUENCES, columns, DType.F32)
        h, after = ops.stateful_lstm(x_gates, weight, self.sequences, state)
        self.recorder.output(name, after)
        return h

    def wanted_rows(self, h: Matrix) -> Matrix:
        """The rows at `output_rows`."""
        return ops.gather_rows(h, self.output_rows)


def stateful_step(r: Recorder) -> StatefulStep:
    """Declares the inputs of a step."""
    sequences = r.input("sequences", SEQUENCES, columns=4)
    return StatefulStep(r, r.input("tokens"), sequences, r.input("output_rows", OUTPUTS))
