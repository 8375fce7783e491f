"""GET /threads: what each thread did last, the queue and the KV memory, for the page's live view."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from weft.serve.recent_runs import RecentRun
from weft.server.errors import json_response
from weft.server.service import Service
from weft.types import BLOCK_TOKENS

_NS_PER_US = 1000


async def threads(request: Request) -> Response:
    """Counts since the start, and the last runs in time. Asking makes the runs to come recorded for 3 s."""
    service: Service = request.app.state.service
    engine = service.model.engine
    blocks, running = engine.scheduler.blocks, engine.scheduler.num_running
    facts = {
        "time_us": time.monotonic_ns() // _NS_PER_US,
        "threads": service.model.pool.statistics(),
        "requests": {
            "running": running,
            "waiting": max(service.num_unfinished - running, 0),
            "limit": service.config.max_queue,
        },
        "kv": {
            "blocks": blocks.num_blocks,
            "used": blocks.num_used,
            "idle": blocks.num_idle,
            "block_tokens": BLOCK_TOKENS,
            "bytes": service.model.cache.nbytes,
        },
        "steps": engine.statistics.num_steps,
        "rows": engine.statistics.num_rows,
        "tokens": engine.statistics.num_tokens,
        **_timeline(service.recent_runs.look()),
    }
    return json_response(facts)


def _timeline(runs: list[RecentRun]) -> dict[str, Any]:
    """operations: names and places. runs: spans as thread, operation, begin and duration in µs of the run."""
    operations: dict[tuple[str, str], int] = {}  # and their numbers
    shown = []
    for run in runs:
        found = run.operations().items()
        places = {node: operations.setdefault(operation, len(operations)) for node, operation in found}
        shown.append(_run(run, places))
    return {"operations": [{"name": name, "where": where} for name, where in operations], "runs": shown}


def _run(run: RecentRun, places: dict[int, int]) -> dict[str, Any]:
    spans = run.spans
    begins = (spans["begin_ns"] - run.begin_ns) / _NS_PER_US
    lengths = (spans["end_ns"] - spans["begin_ns"]) / _NS_PER_US
    columns = (spans["thread"], spans["node"], begins.round(1), lengths.round(1))
    return {
        "team": run.team,
        "begin_us": run.begin_ns // _NS_PER_US,
        "duration_us": (run.end_ns - run.begin_ns) // _NS_PER_US,
        "rows": run.num_rows,
        "requests": run.num_sequences,
        "spans": [
            (thread, places[node], begin, length)
            for thread, node, begin, length in zip(*(column.tolist() for column in columns), strict=True)
        ],
    }
