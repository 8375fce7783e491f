"""Answers of /v1/responses in the API's words: an object with one message, or the events that build it up."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from weft.io.tokenizer import Tokenizer
from weft.serve.sequence import FinishReason, Sequence
from weft.server.errors import ApiError
from weft.server.run import Run
from weft.server.token_text import chosen_tokens
from weft.server.usage import usage_of
from weft.tasks.completion import Completion, Piece

if TYPE_CHECKING:
    from weft.server.create_response import ResponseRequest

_PLACE = {"output_index": 0, "content_index": 0}


class ResponseWriter:
    """Writes one response, the answer of `sequence`."""

    def __init__(self, tokenizer: Tokenizer, model: str, body: ResponseRequest, sequence: Sequence) -> None:
        self._tokenizer = tokenizer
        self._sequence = sequence
        self._item_id = "msg_" + secrets.token_hex(12)
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
            "text": {"format": {"type": "text"}},
            "tools": [],
            "tool_choice": body.tool_choice or "auto",
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "background": False,
        }

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The finished response."""
        return self._response(_status_of(completion), [self._message(completion)])

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """The response as server-sent events, the last of which has it whole."""
        place = {"item_id": self._item_id, **_PLACE}
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        yield self._event("response.output_item.added", output_index=0, item=self._item("in_progress", []))
        yield self._event("response.content_part.added", **place, part=_part("", []))
        try:
            async for _, piece in run.pieces():
                if piece.text or piece.logprobs:
                    told = self._logprobs(piece)
                    yield self._event("response.output_text.delta", **place, delta=piece.text, logprobs=told)
        except ApiError as error:
            yield self._failed(run, error)
            return
        completion = run.answers[0].reader.completion()
        item, status = self._message(completion), _status_of(completion)
        part = item["content"][0]
        told = part["logprobs"]
        yield self._event("response.output_text.done", **place, text=part["text"], logprobs=told)
        yield self._event("response.content_part.done", **place, part=part)
        yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event(f"response.{status}", response=self._response(status, [item]))

    def _failed(self, run: Run, error: ApiError) -> bytes:
        """The last event of a response that was broken off: what came of it, and why."""
        came = self._message(run.answers[0].reader.completion(), "incomplete")
        told = {"code": "server_error", "message": error.message}
        return self._event("response.failed", response=self._response("failed", [came], told))

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

    def _message(self, completion: Completion, status: str | None = None) -> dict[str, Any]:
        part = _part(completion.text, self._logprobs(completion))
        return self._item(status or _status_of(completion), [part])

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _logprobs(self, part: Completion | Piece) -> list[dict[str, Any]]:
        return chosen_tokens(self._tokenizer, part) if part.logprobs is not None else []

    def _event(self, kind: str, **content: Any) -> bytes:
        numbered = {"type": kind, "sequence_number": self._num_events, **content}
        self._num_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(numbered) + b"\n\n"


def _part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _status_of(completion: Completion) -> str:
    return "incomplete" if completion.finish_reason == FinishReason.LENGTH else "completed"
