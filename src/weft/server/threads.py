"""GET /threads: what each thread did last, the queue and the KV memory, for the page's live view."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from weft.serve.recent_runs import RecentRun
from weft.server.errors import json_response
from weft.server.service import Service
from weft.server.shapes import Shape
from weft.types import BLOCK_TOKENS

_NS_PER_US = 1000


class ThreadCounts(Shape):
    """What a thread did since the start: time within runs, and waiting there for others' tiles."""

    team: int
    thread: int
    busy_ns: int
    wait_ns: int
    num_tiles: int
    num_steals: int
    num_parks: int
    num_tasks: int


class RequestCounts(Shape):
    """Answers that have a seat in the step, that wait, and how many there may be."""

    running: int
    waiting: int
    limit: int


class KvBlocks(Shape):
    """Blocks of the KV cache: all, held by answers, and kept for texts that begin alike."""

    blocks: int
    used: int
    idle: int
    block_tokens: int
    bytes: int


class NamedOperation(Shape):
    """Operations that ran together, and where in the model."""

    name: str
    where: str


class ShownRun(Shape):
    """A step of a team: its rows, its requests, and its spans.

    A span is a thread, an index of `operations`, its begin in the run and its length in µs.
    """

    team: int
    begin_us: int
    duration_us: int
    rows: int
    requests: int
    spans: list[tuple[int, int, float, float]]


class Threads(Shape):
    """The threads, and what they work on. Times are of one monotonic clock."""

    time_us: int
    threads: list[ThreadCounts]
    requests: RequestCounts
    kv: KvBlocks
    steps: int
    rows: int
    tokens: int
    operations: list[NamedOperation]
    runs: list[ShownRun]


async def threads(request: Request) -> Response:
    """Counts since the start, and the last steps span by span: those from the first request on, for 3 s."""
    service: Service = request.app.state.service
    engine = service.model.engine
    running = engine.scheduler.num_running
    waiting = max(service.num_unfinished - running, 0)
    operations, runs = _timeline(service.recent_runs.look())
    return json_response(
        Threads(
            time_us=time.monotonic_ns() // _NS_PER_US,
            threads=[ThreadCounts(**row) for row in service.model.pool.statistics()],
            requests=RequestCounts(running=running, waiting=waiting, limit=service.config.max_queue),
            kv=_kv_blocks(service),
            steps=engine.statistics.num_steps,
            rows=engine.statistics.num_rows,
            tokens=engine.statistics.num_tokens,
            operations=operations,
            runs=runs,
        )
    )


def _kv_blocks(service: Service) -> KvBlocks:
    blocks = service.model.engine.scheduler.blocks
    return KvBlocks(
        blocks=blocks.num_blocks,
        used=blocks.num_used,
        idle=blocks.num_idle,
        block_tokens=BLOCK_TOKENS,
        bytes=service.model.cache.nbytes,
    )


def _timeline(runs: list[RecentRun]) -> tuple[list[NamedOperation], list[ShownRun]]:
    """The runs, and the operations that their spans point to."""
    operations: dict[tuple[str, str], int] = {}  # and their numbers
    shown = []
    for run in runs:
        found = run.operations().items()
        places = {node: operations.setdefault(operation, len(operations)) for node, operation in found}
        shown.append(_shown(run, places))
    return [NamedOperation(name=name, where=where) for name, where in operations], shown


def _shown(run: RecentRun, places: dict[int, int]) -> ShownRun:
    spans = run.spans
    begins = (spans["begin_ns"] - run.begin_ns) / _NS_PER_US
    lengths = (spans["end_ns"] - spans["begin_ns"]) / _NS_PER_US
    columns = (spans["thread"], spans["node"], begins.round(1), lengths.round(1))
    return ShownRun(
        team=run.team,
        begin_us=run.begin_ns // _NS_PER_US,
        duration_us=(run.end_ns - run.begin_ns) // _NS_PER_US,
        rows=run.num_rows,
        requests=run.num_sequences,
        spans=[
            (thread, places[node], begin, length)
            for thread, node, begin, length in zip(*(column.tolist() for column in columns), strict=True)
        ],
    )
