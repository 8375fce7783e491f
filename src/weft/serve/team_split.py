"""A step's inputs in parts, one for each team, and the outputs of the parts together again.

Requests are not divided: a row's result does not depend on the rows beside it, so neither on the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from weft.serve.runner import Inputs
from weft.types import Array

_BY_ROW = ("tokens", "positions", "slots", "adapters")
_BY_OUTPUT = ("real_settings", "int_settings", "targets", "output_adapters")


def split_inputs(inputs: Inputs, num_parts: int) -> list[dict[str, Array]]:
    """At most `num_parts` parts of whole requests, of nearly equal numbers of rows, none of them empty."""
    sequences = inputs["sequences"]
    ends = sequences[:, 0] + sequences[:, 1]
    wanted = [ends[-1] * (part + 1) / num_parts for part in range(num_parts)]
    borders = [0, *(int(np.searchsorted(ends, rows)) + 1 for rows in wanted)]
    borders[-1] = len(sequences)
    return [_part(inputs, begin, end) for begin, end in pairwise(borders) if begin < end]


def join_outputs(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Outputs by name, the parts' rows one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _part(inputs: Inputs, begin: int, end: int) -> dict[str, Array]:
    """Requests [begin, end) of a step, as a step of its own; rows are numbered anew."""
    sequences = inputs["sequences"][begin:end].copy()
    first_row = int(sequences[0, 0])
    last_row = int(sequences[-1, 0] + sequences[-1, 1])
    sequences[:, 0] -= first_row
    # Output rows ascend, as the rows of their requests do.
    first_output, last_output = np.searchsorted(inputs["output_rows"][:, 0], (first_row, last_row)).tolist()
    part = {**inputs, "sequences": sequences}
    for name in _BY_ROW:
        if name in inputs:
            part[name] = inputs[name][first_row:last_row]
    for name in _BY_OUTPUT:
        if name in inputs:
            part[name] = inputs[name][first_output:last_output]
    part["output_rows"] = inputs["output_rows"][first_output:last_output] - np.int32(first_row)
    return part


class TeamCalls:
    """Runs one call for each team at the same time: the caller's thread takes the first."""

    def __init__(self, num_teams: int) -> None:
        workers = num_teams - 1
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="weft-team") if workers else None

    def run(self, calls: Sequence[Callable[[], dict[str, Array]]]) -> list[dict[str, Array]]:
        """Results in the order of `calls`; raises the first error after all have ended."""
        if self._threads is None:
            return [call() for call in calls]
        futures = [self._threads.submit(call) for call in calls[1:]]
        try:
            first = calls[0]()
        finally:
            for future in futures:
                future.exception()
        return [first, *(future.result() for future in futures)]

    def close(self) -> None:
        """Ends the threads."""
        if self._threads is not None:
            self._threads.shutdown()
