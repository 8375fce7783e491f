"""Timelines: what each thread did in each step, as a Chrome trace file that Perfetto opens."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from weft.io.named_file import open_named
from weft.machine import processor_name
from weft.runtime import Executable, new_trace, selected_isa
from weft.serve.runner import Inputs
from weft.serve.traced_run import TracedRun
from weft.tracer import Traceable
from weft.types import Array

MACHINE_EVENT = "weft_machine"  # metadata: where the timeline was made

_STEPS_KEPT = 64  # steps whose spans are in memory before they are written
_PROCESS = 1
_NS_PER_US = 1000.0


@contextlib.contextmanager
def trace_to(runner: Traceable, path: str | Path) -> Iterator[TraceFile]:
    """Writes what the threads do meanwhile to the file `path`. Raises OSError where it cannot be written."""
    with io.TextIOWrapper(open_named(path, "w"), encoding="utf-8") as file:
        trace = TraceFile(file)
        runner.tracer = trace
        try:
            yield trace
        finally:
            runner.tracer = None
            trace.close()


class TraceFile:
    """A Chrome trace in the making: a row a thread, numbered from 1, a span an operation; counters of rows.

    Spans carry what `weft.serve.trace_summary` sums up: the number of the run, and once for each operation
    of a run its FLOPs and bytes. Neighbouring row-wise operations run as one, and are one span. Each team
    may run from a thread of its own.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._separator = "["
        self._recorders: dict[int, Any] = {}  # by team
        self._runs: list[TracedRun] = []
        self._named: set[int] = set()
        self._lock = threading.Lock()
        self._num_running = 0
        self._begin_ns = time.monotonic_ns()
        self._num_written = 0  # runs
        self._put({"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": "weft"}})
        machine = {"processor": processor_name(), "isa": selected_isa()}
        self._put({"ph": "M", "pid": _PROCESS, "name": MACHINE_EVENT, "args": machine})

    def run(self, executable: Executable, inputs: Inputs, team: int) -> dict[str, Array]:
        """Runs the plan and keeps what its threads did."""
        with self._lock:
            recorder = self._recorders.get(team)
            if recorder is None:
                recorder = self._recorders[team] = new_trace()
            self._num_running += 1
        begin_ns = time.monotonic_ns()
        try:
            outputs = executable.run(inputs, team, recorder)
        finally:
            with self._lock:
                self._num_running -= 1
        run = TracedRun(executable, inputs, begin_ns, time.monotonic_ns(), team)
        with self._lock:
            self._runs.append(run)
            if len(self._runs) >= _STEPS_KEPT and self._num_running == 0:
                self.flush()
        return outputs

    def flush(self) -> None:
        """Writes what is in memory."""
        for number, run in enumerate(self._runs, self._num_written + 1):
            run.number = number
            self._write_counters(run)
        self._num_written += len(self._runs)
        for team, recorder in self._recorders.items():
            spans = recorder.spans()
            recorder.clear()
            spans.sort(order="begin_ns")
            runs = [run for run in self._runs if run.team == team]
            ends = np.searchsorted(spans["begin_ns"], [run.end_ns for run in runs])
            for run, part in zip(runs, np.split(spans, ends), strict=False):
                self._write_spans(team, part, run)
        self._runs.clear()

    def close(self) -> None:
        """Writes the rest and ends the file."""
        self.flush()
        self._file.write("\n]\n")
        self._file.flush()

    def _write_spans(self, team: int, spans: Array, run: TracedRun) -> None:
        """Writes the spans of one run."""
        spanned = {int(node) for node in spans["node"]}
        counted: set[int] = set()  # operations whose cost is written already
        for thread, node, phase, tiles, begin_ns, end_ns in spans.tolist():
            span = run.operation(node, spanned)
            args = {"where": span.label, "run": run.number, "phase": phase, "tiles": tiles}
            if node not in counted:
                counted.add(node)
                cost = {"flops": span.cost.flops, "bytes": span.cost.bytes, "kind": span.kind}
                args |= cost | {"weight": span.weight}
            else:
                args |= {"weight": span.weight}
            self._put_span(span.name, self._row(team, thread), begin_ns, end_ns, args | {"node": node})

    def _row(self, team: int, thread: int) -> int:
        """The number of a thread's row, from 1; named at its first span."""
        row = 1 + thread + 1000 * team
        if row not in self._named:
            self._named.add(row)
            name = f"thread {thread + 1}" if team == 0 else f"team {team + 1} thread {thread + 1}"
            self._put({"ph": "M", "pid": _PROCESS, "tid": row, "name": "thread_name", "args": {"name": name}})
        return row

    def _write_counters(self, run: TracedRun) -> None:
        at = self._microseconds(run.begin_ns)
        self._put({"ph": "C", "pid": _PROCESS, "ts": at, "name": "rows", "args": {"rows": run.sizes["rows"]}})
        if "outputs" in run.sizes:
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
