"""What a timeline amounts to: time by operation beside the machine's limits, and how busy threads were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.errors import WeftError
from weft.machine import MachineLimits
from weft.serve.trace import MACHINE_EVENT

_S_PER_US = 1e-6


@dataclass
class OperationTime:
    """All runs of one operation over weights of one shape.

    time_s: from the begin of its first span to the end of its last, added up over runs; thread_s: of all
    threads together.
    """

    name: str
    weight: str
    kind: str
    num_runs: int = 0
    time_s: float = 0.0
    thread_s: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def share(self, limits: MachineLimits) -> float | None:
        """The least time for its work and traffic, as a share of the time that it took."""
        return limits.seconds(self.flops, self.bytes, self.kind) / self.time_s if self.time_s else None


@dataclass
class ThreadTime:
    """One row of the timeline."""

    name: str
    busy_s: float = 0.0
    num_spans: int = 0


@dataclass
class Summary:
    """A timeline summed up: operations by time, the longest first, and threads by number.

    run_s: within runs; total_s: from the first span to the last. machine: "processor" and "isa".
    """

    operations: list[OperationTime]
    threads: list[ThreadTime]
    num_runs: int
    run_s: float
    total_s: float
    machine: dict[str, str] = field(default_factory=dict)


def summarize(path: str | Path) -> Summary:
    """The summary of the timeline at `path`. Raises WeftError when that is no timeline of weft, OSError."""
    events = _read(Path(path))
    threads = {
        event["tid"]: ThreadTime(str(event["args"]["name"]))
        for event in events
        if event.get("name") == "thread_name"
    }
    spans = [event for event in events if event.get("ph") == "X"]
    if not spans:
        raise WeftError(f"{path}: expected a timeline with spans, got none; trace a run that does something.")
    for span in spans:
        thread = threads.setdefault(span["tid"], ThreadTime(f"thread {span['tid']}"))
        thread.busy_s += span["dur"] * _S_PER_US
        thread.num_spans += 1
    operations = sorted(_operations(spans), key=lambda operation: -operation.time_s)
    runs = _extents(spans, lambda span: span["args"]["run"])
    begin, end = _extent(spans)
    return Summary(
        operations,
        [threads[row] for row in sorted(threads)],
        len(runs),
        sum(end - begin for begin, end in runs.values()) * _S_PER_US,
        (end - begin) * _S_PER_US,
        _machine(events),
    )


def _operations(spans: list[dict[str, Any]]) -> Iterable[OperationTime]:
    found: dict[tuple[str, str], OperationTime] = {}
    for span in spans:
        args = span["args"]
        key = (span["name"], args["weight"])
        operation = found.setdefault(key, OperationTime(*key, args.get("kind", "f32")))
        operation.thread_s += span["dur"] * _S_PER_US
        operation.flops += args.get("flops", 0.0)
        operation.bytes += args.get("bytes", 0.0)
    names = {
        (span["args"]["run"], span["args"]["node"]): (span["name"], span["args"]["weight"]) for span in spans
    }
    extents = _extents(spans, lambda span: (span["args"]["run"], span["args"]["node"]))
    for one_run, (begin, end) in extents.items():
        operation = found[names[one_run]]
        operation.num_runs += 1
        operation.time_s += (end - begin) * _S_PER_US
    return found.values()


def _extents(spans: list[dict[str, Any]], key: Any) -> dict[Any, tuple[float, float]]:
    """The time from first begin to last end, by `key` of the spans."""
    extents: dict[Any, tuple[float, float]] = {}
    for span in spans:
        begin, end = span["ts"], span["ts"] + span["dur"]
        known = extents.get(key(span), (begin, end))
        extents[key(span)] = (min(known[0], begin), max(known[1], end))
    return extents


def _extent(spans: list[dict[str, Any]]) -> tuple[float, float]:
    return min(span["ts"] for span in spans), max(span["ts"] + span["dur"] for span in spans)


def _machine(events: list[dict[str, Any]]) -> dict[str, str]:
    return next((event["args"] for event in events if event.get("name") == MACHINE_EVENT), {})


def _read(path: Path) -> list[dict[str, Any]]:
    """The events of the file, checked as far as the summary relies on them."""
    try:
        events = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise WeftError(
            f"{path}: expected a timeline in JSON, got something else ({error}); write one with "
            "`weft generate --trace FILE`."
        ) from error
    if not isinstance(events, list) or not all(_is_event(event) for event in events):
        raise WeftError(
            f"{path}: expected a timeline that weft wrote, got other JSON; write one with "
            "`weft generate --trace FILE`."
        )
    return events


def _is_event(event: Any) -> bool:
    if not isinstance(event, Mapping) or not isinstance(event.get("args", {}), Mapping):
        return False
    if event.get("name") == "thread_name":
        return isinstance(event.get("tid"), int) and "name" in event.get("args", {})
    if event.get("ph") != "X":
        return True
    args = event.get("args", {})
    numbers = (event.get("ts"), event.get("dur"), args.get("flops", 0.0), args.get("bytes", 0.0))
    texts = (event.get("name"), args.get("weight"), args.get("kind", ""))
    counts = (event.get("tid"), args.get("run"), args.get("node"))
    return (
        all(isinstance(number, (int, float)) for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(count, int) for count in counts)
    )
