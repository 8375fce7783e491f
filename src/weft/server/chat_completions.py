"""POST /v1/chat/completions: the answer to a conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from weft import __version__
from weft.errors import WeftError
from weft.server.body import read_struct
from weft.server.errors import ApiError, of_weft
from weft.server.responses import DONE, event, reply
from weft.server.run import Run
from weft.server.sampling_fields import Count, decoder_of
from weft.server.served import Served
from weft.server.service import Service
from weft.server.token_text import chosen_tokens
from weft.server.tool_fields import ToolFields
from weft.server.tool_prompt import prompt_of
from weft.server.tool_reader import ToolReader
from weft.server.tools import ToolCall
from weft.server.usage import usage_of
from weft.tasks.completion import Completion, Piece


class TextPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """A part of a message; weft's models read text."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, forbid_unknown_fields=True, kw_only=True):
    """A turn of the conversation. The fields that only answers have may come back empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    type: Literal["text"] | None = None  # lm-eval says it of each message
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content; parts are lines."""
        content = self.content or ""
        return content if isinstance(content, str) else "\n".join(part.text for part in content)

    def plain(self) -> dict[str, Any]:
        """The message as a chat template has it. Raises ApiError for calls that are none."""
        role = "system" if self.role == "developer" else self.role
        named = {"name": self.name} if self.name is not None else {}
        plain: dict[str, Any] = {"role": role, "content": self.text, **named}
        if self.tool_calls:
            calls = [{"type": "function", "function": call.function.plain()} for call in self.tool_calls]
            plain["tool_calls"] = calls
        return plain


class ChatRequest(ToolFields, kw_only=True):
    """The body of the request."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    modalities: list[Literal["text"]] | None = None

    def settings(self) -> dict[str, Any]:
        """The fields as settings of `weft.SamplingParams`."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        settings = self.sampling() | {"max_tokens": min(limits, default=None)}
        if self.logprobs:
            settings["logprobs"] = self.top_logprobs or True
        elif self.top_logprobs:
            raise ApiError(
                400, "Expected top_logprobs with logprobs alone, got it without.", param="top_logprobs"
            )
        return settings


CHAT_DECODER = decoder_of(ChatRequest)


async def chat_completions(request: Request) -> Response:
    """Answers a conversation, whole or as server-sent events."""
    service: Service = request.app.state.service
    body: ChatRequest = await read_struct(request, CHAT_DECODER, service.config.max_body_bytes)
    length = sum(len(message.text) for message in body.messages)
    work = await service.prepare(
        body.num_choices,
        length,
        lambda: ChatWork(service.served, body),
        takes_long=body.is_constrained,
    )
    run = service.run(work.sequences, streams=bool(body.stream))
    events = work.events(run) if body.stream else None
    return await reply(request, run, events, work.whole)


class ChatWork:
    """The engine's requests for one conversation, and their answers in the API's words.

    sequences: the requests, a choice each. Raises ApiError for what the model cannot take.
    """

    def __init__(self, served: Served, body: ChatRequest) -> None:
        model = served.model
        self._body = body
        self._may_call = body.offer.may_call
        self._tokenizer = model.tokenizer
        self._head = {
            "id": "chatcmpl-" + secrets.token_hex(12),
            "created": int(time.time()),
            "model": body.model or served.name,
            "system_fingerprint": f"weft-{__version__}",
        }
        adapter = served.adapter(body.model)
        try:
            params = model.generator.sampling(body.settings())
            messages = [message.plain() for message in body.messages]
            tokens = prompt_of(model.chatter, messages, body.offer.offered())
            self.sequences = model.generator.choices(tokens, params, body.num_choices, adapter)
        except WeftError as error:
            raise of_weft(error, (*body.__struct_fields__,)) from error

    def whole(self, completions: list[Completion]) -> dict[str, Any]:
        """All answers, those to `sequences`, as one object."""
        choices = [self._choice(index, completion) for index, completion in enumerate(completions)]
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage,
        }

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
        reason: str | None = completion.finish_reason
        if self._may_call:
            reader = ToolReader()
            reader.push(completion.text, is_last=True)
            reason = _reason(reason, reader)
            message["content"] = reader.text or (None if reader.calls else "")
            if reader.calls:
                message["tool_calls"] = [call.plain() for call in reader.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(completion),
            "finish_reason": reason,
        }

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """The answers as server-sent events."""
        for index in range(len(run.answers)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        readers = [ToolReader() for _ in run.answers]
        async for index, piece in run.pieces():
            if not (piece.text or piece.finish_reason or piece.logprobs):
                continue
            for chunk in self._chunks(index, readers[index], piece):
                yield chunk
        if self._body.wants_usage:
            last = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage}
            yield event(last)
        yield DONE

    @property
    def _usage(self) -> dict[str, Any]:
        return usage_of(len(self.sequences[0].prompt), self.sequences)

    def _chunks(self, index: int, reader: ToolReader, piece: Piece) -> Iterator[bytes]:
        """The events of a piece; its log-probabilities and the end of the answer are in the last one."""
        if not self._may_call:
            delta = {"content": piece.text} if piece.text or not piece.finish_reason else {}
            yield self._chunk(index, delta, piece)
            return
        is_last = piece.finish_reason is not None
        deltas = reader.push(piece.text, is_last=is_last)
        for delta in deltas[:-1]:
            yield self._chunk(index, delta)
        if deltas or is_last or piece.logprobs:
            ending = replace(piece, finish_reason=_reason(piece.finish_reason, reader))
            yield self._chunk(index, deltas[-1] if deltas else {}, ending)

    def _chunk(self, index: int, delta: dict[str, Any], piece: Piece | None = None) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(piece) if piece else None,
            "finish_reason": piece.finish_reason if piece else None,
        }
        content = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        if self._body.wants_usage:
            content["usage"] = self._usage if self._body.wants_usage_so_far else None
        return event(content)

    def _logprobs(self, part: Completion | Piece) -> dict[str, Any] | None:
        if part.logprobs is None:
            return None
        return {"content": chosen_tokens(self._tokenizer, part), "refusal": None}


def _reason(reason: str | None, reader: ToolReader) -> str | None:
    return "tool_calls" if reason == "stop" and reader.has_called else reason
