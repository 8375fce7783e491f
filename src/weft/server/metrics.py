"""GET /metrics: what the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from weft.server.service import Service
from weft.server.statistics import counter_lines, gauge_lines, labels


async def metrics(request: Request) -> Response:
    """All of it as text."""
    lines = "\n".join(_lines(request.app.state.service)) + "\n"
    return Response(lines, media_type="text/plain; version=0.0.4; charset=utf-8")


def _lines(service: Service) -> Iterator[str]:
    yield from _load_lines(service)
    yield from _memory_lines(service)
    yield from _token_lines(service)
    yield from _answer_lines(service)
    yield from _time_lines(service)


def _load_lines(service: Service) -> Iterator[str]:
    scheduler = service.model.engine.scheduler
    running = scheduler.num_running
    yield from gauge_lines("weft_requests_running", "Answers that have a seat in the step.", running)
    waiting = max(service.num_unfinished - running, 0)
    yield from gauge_lines("weft_requests_waiting", "Answers in the queue.", waiting)
    yield from counter_lines(
        "weft_preemptions_total", "Answers set back for want of KV memory.", scheduler.num_preemptions
    )


def _memory_lines(service: Service) -> Iterator[str]:
    scheduler = service.model.engine.scheduler
    blocks = scheduler.blocks
    yield from counter_lines(
        "weft_prefix_tokens_total", "Tokens of prompts found in the cache.", scheduler.num_reused_tokens
    )
    yield from gauge_lines("weft_kv_blocks_idle", "Blocks kept for texts that begin alike.", blocks.num_idle)
    yield from gauge_lines("weft_kv_blocks", "Blocks of the KV cache.", blocks.num_blocks)
    yield from gauge_lines("weft_kv_blocks_used", "Blocks that answers hold.", blocks.num_used)


def _token_lines(service: Service) -> Iterator[str]:
    counted, steps = service.statistics, service.model.engine.statistics
    yield from counter_lines("weft_prompt_tokens_total", "Tokens of prompts.", counted.prompt_tokens)
    yield from counter_lines("weft_answer_tokens_total", "Tokens answered.", counted.answer_tokens)
    yield from counter_lines("weft_steps_total", "Steps of the engine.", steps.num_steps)
    yield from counter_lines("weft_step_rows_total", "Rows of all steps.", steps.num_rows)
    yield from counter_lines("weft_draft_tokens_total", "Tokens guessed ahead.", steps.num_drafted)
    yield from counter_lines(
        "weft_accepted_tokens_total", "Tokens guessed ahead that were right.", steps.num_accepted
    )


def _answer_lines(service: Service) -> Iterator[str]:
    counted = service.statistics
    finished = {labels(reason=reason): count for reason, count in sorted(counted.finished.items())}
    yield from counter_lines("weft_requests_finished_total", "Answers by how they ended.", finished)
    answers = {
        labels(model=name): counted.by_adapter[service.served.adapter(name)] for name in service.served.names
    }
    yield from counter_lines("weft_answers_total", "Answers by the model or adapter that gave them.", answers)
    responses = {
        labels(endpoint=endpoint, status=status): count
        for (endpoint, status), count in sorted(counted.responses.items())
    }
    yield from counter_lines("weft_http_responses_total", "Responses by endpoint and status.", responses)
    yield from counter_lines(
        "weft_disconnects_total", "Clients that left before the end.", counted.disconnects
    )


def _time_lines(service: Service) -> Iterator[str]:
    counted = service.statistics
    yield from counted.first_token_s.lines("weft_time_to_first_token_seconds", "From arrival on.")
    yield from counted.between_tokens_s.lines("weft_time_between_tokens_seconds", "Of one answer.")
    yield from counted.whole_s.lines("weft_request_seconds", "From arrival to the end of an answer.")
    busy = {
        labels(team=row["team"], thread=row["thread"]): row["busy_ns"] / 1e9
        for row in service.model.pool.statistics()
    }
    yield from counter_lines("weft_thread_busy_seconds_total", "Time that a thread computed.", busy)
