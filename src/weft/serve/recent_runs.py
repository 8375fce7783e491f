"""What the threads did in the last runs, recorded only while somebody looks."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from weft.runtime import Executable, new_trace
from weft.serve.plan_runner import PlanRunner
from weft.serve.runner import Inputs
from weft.serve.traced_run import span_name, span_nodes
from weft.types import Array

ATTENTION_NS = 3_000_000_000  # after this time without a look nothing is recorded any more
_MAX_SPANS = 1 << 13  # of a thread in a run


@dataclass(frozen=True)
class RecentRun:
    """A run of a plan by a team. spans: structured array with thread, node, begin_ns, end_ns (monotonic)."""

    executable: Executable
    team: int
    begin_ns: int
    end_ns: int
    num_rows: int
    num_sequences: int
    spans: Array

    def operations(self) -> dict[int, tuple[str, str]]:
        """For each node that has a span: the operations that ran in it, and where in the model."""
        nodes = self.executable.plan.nodes
        spanned = set(self.spans["node"].tolist())
        return {
            first: (span_name(span_nodes(nodes, first, spanned)), nodes[first].label) for first in spanned
        }


class RecentRuns:
    """A ring of the last runs of `runner`: a `Tracer` that a look puts in place, and that goes by itself.

    One thread looks; the threads that run the teams record.
    """

    def __init__(self, runner: PlanRunner, num_runs: int = 2) -> None:
        self._runner = runner
        self._runs: deque[RecentRun] = deque(maxlen=num_runs)
        self._recorders: dict[int, Any] = {}  # by team
        self._looked_ns = 0

    def look(self) -> list[RecentRun]:
        """The last runs that were recorded, the oldest first; those to come are recorded for a while."""
        self._looked_ns = time.monotonic_ns()
        if self._runner.tracer is None:  # a timeline that is being written goes first
            self._runner.tracer = self
        return sorted(self._runs, key=lambda run: run.begin_ns)

    def run(self, executable: Executable, inputs: Inputs, team: int) -> dict[str, Array]:
        """Runs the plan and keeps what its threads did."""
        begin_ns = time.monotonic_ns()
        if begin_ns - self._looked_ns > ATTENTION_NS:
            self._runner.tracer = None
            return executable.run(inputs, team)
        recorder = self._recorders.get(team)
        if recorder is None:
            recorder = self._recorders[team] = new_trace(_MAX_SPANS)
        outputs = executable.run(inputs, team, recorder)
        end_ns, spans = time.monotonic_ns(), recorder.spans()
        recorder.clear()
        sizes = len(inputs["positions"]), len(inputs["sequences"])
        self._runs.append(RecentRun(executable, team, begin_ns, end_ns, *sizes, spans))
        return outputs
