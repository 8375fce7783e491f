"""POST /v1/chat/completions: the answer to a conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from weft import __version__
from weft.errors import WeftError
from weft.server.body import read_struct
from weft.server.errors import of_weft
from weft.server.responses import DONE, event, reply
from weft.server.run import Run
from weft.server.sampling_fields import Count, SamplingFields, decoder_of
from weft.server.served import Served
from weft.server.service import Service
from weft.server.token_text import chosen_tokens
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
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Meta(max_length=0)] | None = None

    @property
    def text(self) -> str:
        """The content; parts are lines."""
        content = self.content or ""
        return content if isinstance(content, str) else "\n".join(part.text for part in content)

    def plain(self) -> dict[str, str]:
        """The message as a chat template has it."""
        role = "system" if self.role == "developer" else self.role
        named = {"name": self.name} if self.name is not None else {}
        return {"role": role, "content": self.text, **named}


class ChatRequest(SamplingFields, kw_only=True):
    """The body of the request."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None

    def settings(self) -> dict[str, Any]:
        """The fields as settings of `weft.SamplingParams`."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        settings = self.sampling() | {"max_tokens": min(limits, default=None)}
        if self.logprobs:
            settings["logprobs"] = self.top_logprobs or True
        return settings


CHAT_DECODER = decoder_of(ChatRequest)


async def chat_completions(request: Request) -> Response:
    """Answers a conversation, whole or as server-sent events."""
    service: Service = request.app.state.service
    body: ChatRequest = await read_struct(request, CHAT_DECODER, service.config.max_body_bytes)
    length = sum(len(message.text) for message in body.messages)
    work = await service.prepare(body.num_choices, length, lambda: ChatWork(service.served, body))
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
            tokens = model.chatter.tokens([message.plain() for message in body.messages])
            self.sequences = model.generator.choices(tokens, params, body.num_choices, adapter)
        except WeftError as error:
            raise of_weft(error, (*body.__struct_fields__,)) from error

    def whole(self, completions: list[Completion]) -> dict[str, Any]:
        """All answers, those to `sequences`, as one object."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": completion.text, "refusal": None},
                "logprobs": self._logprobs(completion),
                "finish_reason": completion.finish_reason,
            }
            for index, completion in enumerate(completions)
        ]
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage,
        }

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """The answers as server-sent events."""
        for index in range(len(run.answers)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        async for index, piece in run.pieces():
            if piece.text or piece.finish_reason or piece.logprobs:
                delta = {"content": piece.text} if piece.text or not piece.finish_reason else {}
                yield self._chunk(index, delta, piece)
        if self._body.wants_usage:
            last = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage}
            yield event(last)
        yield DONE

    @property
    def _usage(self) -> dict[str, Any]:
        return usage_of(len(self.sequences[0].prompt), self.sequences)

    def _chunk(self, index: int, delta: dict[str, str], piece: Piece | None = None) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(piece) if piece else None,
            "finish_reason": piece.finish_reason if piece else None,
        }
        content = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        if self._body.wants_usage:
            content["usage"] = None
        return event(content)

    def _logprobs(self, part: Completion | Piece) -> dict[str, Any] | None:
        if part.logprobs is None:
            return None
        return {"content": chosen_tokens(self._tokenizer, part), "refusal": None}
