"""Recordings of random graphs over the operations that work row by row, for any seed."""

from __future__ import annotations

import numpy as np
from support.plain_weight import PlainWeight

from weft import ops
from weft.plan import Recorder, Recording
from weft.types import Array

MAX_SIZES = {"rows": 7, "outputs": 3}
WIDTHS = (1, 4, 16, 24, 33)


class RandomGraph:
    """A recording of about `length` operations, its weights and inputs for a run, all drawn from `seed`."""

    def __init__(self, seed: int, length: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.weights: dict[str, PlainWeight | Array] = {}
        self.r = Recorder(self.weights)
        tokens = self.r.input("tokens")
        self.values = [ops.embedding(tokens, self._weight(50, int(self.draw.choice(WIDTHS[1:]))))]
        for _ in range(length):
            self.values.append(self._any_operation())
        self._outputs()
        self.recording: Recording = self.r.finish()

    def inputs(self, rows: int = 7) -> dict[str, Array]:
        """Inputs of a run of `rows` tokens."""
        ids = self.draw.integers(0, 50, (rows, 1)).astype(np.int32)
        picked = self.draw.integers(0, rows, (3, 1)).astype(np.int32)
        return {"tokens": ids, "output_rows": picked, "positions": np.arange(rows, dtype=np.int32)[:, None]}

    def _outputs(self):
        rows = self.r.input("output_rows", "outputs")
        gathered = ops.gather_rows(self.values[-1], rows)
        self.r.output("gathered", ops.linear(gathered, self._weight(5, gathered.type.columns)))
        for index in self.draw.choice(len(self.values), 2):
            self.r.output(f"value {len(self.r._outputs)}", self.values[index])

    def _any_operation(self):
        x = self._any_value()
        columns = x.type.columns
        match self.draw.integers(11):
            case 0:
                return ops.rms_norm(x, self._vector(columns), 1e-5)
            case 1:
                return ops.layer_norm(x, self._vector(columns), self._vector(columns), 1e-5)
            case 2:
                return ops.gelu(x, str(self.draw.choice(["none", "tanh"])))
            case 3 if columns % 2 == 0:
                return ops.silu_gate(x)
            case 4 if columns % 4 == 0:
                inv_freq = self.r.constant(f"inv_freq {columns}", np.linspace(1, 0.1, columns // 4))
                return ops.rotary(x, self.r.input("positions"), inv_freq, 2, columns // 2)
            case 5 | 6:
                return ops.add(x, self._any_value(columns))
            case 7:
                gated = ops.linear(x, self._weight(32, columns, interleaved=True))
                return ops.silu_gate(gated)
            case 8:
                return ops.concat(*(self._any_value() for _ in range(self.draw.integers(2, 4))))
            case 9:
                quarter = max(1, columns // 4)
                return ops.concat(*x.split(quarter, columns - quarter)) if columns > 1 else ops.gelu(x)
            case _:
                width = int(self.draw.choice(WIDTHS))
                bias = self._vector(width) if self.draw.integers(2) else None
                return ops.linear(x, self._weight(width, columns), bias)

    def _any_value(self, columns: int = 0):
        """A recent value more often than an old one, sometimes some of its columns."""
        fitting = [value for value in self.values if not columns or value.type.columns >= columns]
        index = len(fitting) - 1 - min(int(self.draw.geometric(0.5)) - 1, len(fitting) - 1)
        value = fitting[index]
        if columns and value.type.columns > columns:
            return value.columns(int(self.draw.integers(value.type.columns - columns + 1)), columns)
        if not columns and value.type.columns >= 8 and self.draw.integers(3) == 0:
            quarter = value.type.columns // 4
            return value.split(quarter, quarter, value.type.columns - 2 * quarter)[1]
        return value

    def _weight(self, n: int, k: int, interleaved: bool = False):
        name = f"weight {len(self.weights)}"
        self.weights[name] = PlainWeight(self.draw.standard_normal((n, k)) / np.sqrt(k), interleaved)
        return self.r.weight(name)

    def _vector(self, size: int):
        name = f"vector {len(self.weights)}"
        self.weights[name] = self.draw.standard_normal(size)
        return self.r.weight(name)
