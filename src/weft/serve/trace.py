"""Timelines: what each thread did in each step, as a Chrome trace file that Perfetto opens."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from weft.runtime import Executable, new_trace
from weft.serve.plan_runner import PlanRunner
from weft.serve.runner import Inputs
from weft.types import Array

_STEPS_KEPT = 64  # steps whose spans are in memory before they are written
_PROCESS = 1
_NS_PER_US = 1000.0


@contextlib.contextmanager
def trace_to(runner: PlanRunner, path: str | Path) -> Iterator[TraceFile]:
    """Writes what the threads do meanwhile to the file `path`. Raises OSError where it cannot be written."""
    with open(path, "w", encoding="utf-8") as file:
        trace = TraceFile(file)
        runner.tracer = trace
        try:
            yield trace
        finally:
            runner.tracer = None
            trace.close()


class TraceFile:
    """A Chrome trace in the making: a row a thread, numbered from 1, a span an operation; counters of rows.

    Spans carry what `weft trace` sums up: the operation's FLOPs and bytes, once for each run of it. For one thread
    at a time.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._separator = "["
        self._recorders: dict[int, Any] = {}  # by team
        self._runs: list[_Run] = []
        self._named: set[int] = set()
        self._begin_ns = time.monotonic_ns()
        self._put({"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": "weft"}})

    def run(self, executable: Executable, inputs: Inputs, team: int) -> dict[str, Array]:
        """Runs the plan and keeps what its threads did."""
        recorder = self._recorders.setdefault(team, new_trace())
        begin_ns = time.monotonic_ns()
        outputs = executable.run(inputs, team, recorder)
        self._runs.append(_Run(executable, _sizes(inputs), begin_ns, time.monotonic_ns(), team))
        if len(self._runs) >= _STEPS_KEPT:
            self.flush()
        return outputs

    def flush(self) -> None:
        """Writes what is in memory."""
        for team, recorder in self._recorders.items():
            runs = [run for run in self._runs if run.team == team]
            self._write_spans(team, recorder.spans(), runs)
            recorder.clear()
        for run in self._runs:
            self._write_counters(run)
        self._runs.clear()

    def close(self) -> None:
        """Writes the rest and ends the file."""
        self.flush()
        self._file.write("\n]\n")
        self._file.flush()

    def _write_spans(self, team: int, spans: Array, runs: list[_Run]) -> None:
        spans.sort(order="begin_ns")
        number = 0
        counted: set[tuple[int, int]] = set()  # operations of a run whose cost is written already
        for thread, node, phase, tiles, begin_ns, end_ns in spans.tolist():
            while number + 1 < len(runs) and begin_ns >= runs[number + 1].begin_ns:
                number += 1
            run = runs[number]
            name, label, flops, nbytes = run.operation(node)
            args = {"node": node, "phase": phase, "tiles": tiles, "where": label}
            if (number, node) not in counted:
                counted.add((number, node))
                args |= {"flops": flops, "bytes": nbytes}
            self._put_span(name, self._row(team, thread), begin_ns, end_ns, args)

    def _row(self, team: int, thread: int) -> int:
        """The number of a thread's row, from 1; named at its first span."""
        row = 1 + thread + 1000 * team
        if row not in self._named:
            self._named.add(row)
            name = f"thread {thread + 1}" if team == 0 else f"team {team + 1} thread {thread + 1}"
            self._put({"ph": "M", "pid": _PROCESS, "tid": row, "name": "thread_name", "args": {"name": name}})
        return row

    def _write_counters(self, run: _Run) -> None:
        at = self._microseconds(run.begin_ns)
        self._put({"ph": "C", "pid": _PROCESS, "ts": at, "name": "rows", "args": {"rows": run.sizes["rows"]}})
        args = {"requests": run.sizes["sequences"]}
        self._put({"ph": "C", "pid": _PROCESS, "ts": at, "name": "requests", "args": args})

    def _put_span(self, name: str, row: int, begin_ns: int, end_ns: int, args: dict[str, Any]) -> None:
        self._put(
            {
                "ph": "X",
                "pid": _PROCESS,
                "tid": row,
                "ts": self._microseconds(begin_ns),
                "dur": round((end_ns - begin_ns) / _NS_PER_US, 3),
                "name": name,
                "args": args,
            }
        )

    def _microseconds(self, at_ns: int) -> float:
        return round((at_ns - self._begin_ns) / _NS_PER_US, 3)

    def _put(self, event: dict[str, Any]) -> None:
        self._file.write(f"{self._separator}\n{json.dumps(event, separators=(',', ':'))}")
        self._separator = ","


class _Run:
    """A run of a plan: when, and what its operations cost for its sizes."""

    def __init__(
        self, executable: Executable, sizes: dict[str, float], begin_ns: int, end_ns: int, team: int
    ) -> None:
        self.sizes = sizes
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.team = team
        self._plan = executable.plan
        self._costs: list[Any] | None = None

    def operation(self, node: int) -> tuple[str, str, float, float]:
        """Name, place in the model, FLOPs and bytes of an operation."""
        if self._costs is None:
            self._costs = self._plan.costs(self.sizes)
        described, cost = self._plan.nodes[node], self._costs[node]
        return described.op.name, described.label, cost.flops, cost.bytes


def _sizes(inputs: Inputs) -> dict[str, float]:
    """Sizes of a run by dimension, and the mean number of tokens that a row attends to."""
    positions = inputs["positions"]
    return {
        "rows": len(positions),
        "outputs": len(inputs["output_rows"]),
        "sequences": len(inputs["sequences"]),
        "context": float(positions.mean()) + 1.0,
    }
