"""Answers of /v1/responses in the API's words: an object with its items, or the events that build it up."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from weft.io.text.tokenizer import Tokenizer
from weft.serve.sequence import FinishReason, Sequence
from weft.server.answer_format import TextFormat
from weft.server.errors import ApiError
from weft.server.response_items import AnswerItems
from weft.server.run import Run
from weft.server.usage import usage_of
from weft.tasks.completion import Completion

if TYPE_CHECKING:
    from weft.server.create_response import ResponseRequest


class ResponseWriter:
    """Writes one response, the answer of `sequence`."""

    def __init__(self, tokenizer: Tokenizer, model: str, body: ResponseRequest, sequence: Sequence) -> None:
        self._sequence = sequence
        self._items = AnswerItems(tokenizer, may_call=body.offer.may_call)
        self._num_events = 0
        self._head = {
            "id": "resp_" + secrets.token_hex(12),
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "temperature": sequence.params.temperature,
            "top_p": sequence.params.top_p,
            "top_logprobs": body.top_logprobs or 0,
            "metadata": body.metadata or {},
            "text": {"format": (body.text and body.text.format) or TextFormat()},
            "tools": body.tools or [],
            "tool_choice": body.tool_choice or "auto",
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "background": False,
        }

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The finished response."""
        status = _status_of(completion)
        return self._response(status, self._items.whole(completion, status))

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """The response as server-sent events, the last of which has it whole."""
        items = self._items
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        for kind, content in items.begin():
            yield self._event(kind, **content)
        try:
            async for _, piece in run.pieces():
                for kind, content in items.push(piece):
                    yield self._event(kind, **content)
        except ApiError as error:
            yield self._failed(run, error)
            return
        completion = run.answers[0].reader.completion()
        status = _status_of(completion)
        for kind, content in items.end(completion, status):
            yield self._event(kind, **content)
        yield self._event(
            f"response.{status}", response=self._response(status, items.told(completion, status))
        )

    def _failed(self, run: Run, error: ApiError) -> bytes:
        """The last event of a response that was broken off: what came of it, and why."""
        came = self._items.told(run.answers[0].reader.completion(), "incomplete")
        told = {"code": "server_error", "message": error.message}
        return self._event("response.failed", response=self._response("failed", came, told))

    def _response(
        self, status: str, output: list[dict[str, Any]], error: dict[str, str] | None = None
    ) -> dict[str, Any]:
        ended = status != "in_progress"
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            **self._head,
            "status": status,
            "error": error,
            "incomplete_details": incomplete,
            "output": output,
            "usage": self._usage if ended else None,
        }

    @property
    def _usage(self) -> dict[str, Any]:
        usage = usage_of(len(self._sequence.prompt), [self._sequence])
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": usage["prompt_tokens"] - cached,
            },
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }

    def _event(self, kind: str, **content: Any) -> bytes:
        numbered = {"type": kind, "sequence_number": self._num_events, **content}
        self._num_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(numbered) + b"\n\n"


def _status_of(completion: Completion) -> str:
    return "incomplete" if completion.finish_reason == FinishReason.LENGTH else "completed"
