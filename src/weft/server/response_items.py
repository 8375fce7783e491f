"""The items of an answer in /v1/responses, a message or calls of functions: whole, and as they grow."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from weft.io.text.tokenizer import Tokenizer
from weft.server.token_text import chosen_tokens
from weft.server.tool_reader import Call, ToolReader
from weft.tasks.completion import Completion, Piece

Plain = dict[str, Any]
Event = tuple[str, Plain]  # the kind of an event, and what it tells


class AnswerItems:
    """The items of one answer. may_call: whether it may be calls; they stand alone, without a message."""

    def __init__(self, tokenizer: Tokenizer, *, may_call: bool) -> None:
        self._tokenizer = tokenizer
        self._reader = ToolReader() if may_call else None
        self._message_id = "msg_" + secrets.token_hex(12)
        self._call_ids: list[str] = []  # of those that were begun
        self._has_begun = False  # the message
        self._untold: list[Plain] = []  # log-probabilities of text that was not told yet

    def whole(self, completion: Completion, status: str) -> list[Plain]:
        """The items of an answer that was not told piece by piece."""
        if self._reader is not None:
            self._reader.push(completion.text, is_last=True)
        return self.told(completion, status)

    def told(self, completion: Completion, status: str) -> list[Plain]:
        """The items of what `push` has taken. status: of a message; whole calls are complete."""
        if self._calls:
            return [self._call_item(index) for index in range(len(self._calls))]
        text = completion.text if self._reader is None else self._reader.text
        return [self._message(status, [_part(text, self._logprobs(completion))])]

    def begin(self) -> Iterator[Event]:
        """Events before the first token: whether it is a message is known where nothing can be called."""
        if self._reader is None:
            yield from self._begin_message()

    def push(self, piece: Piece) -> Iterator[Event]:
        """Takes the next piece; gives the events that are sure by now."""
        self._untold += self._logprobs(piece)
        if self._reader is None:
            if piece.text or self._untold:
                yield self._grown(piece.text)
            return
        for delta in self._reader.push(piece.text, is_last=piece.finish_reason is not None):
            if "content" in delta:
                yield from self._begin_message()
                yield self._grown(delta["content"])
            else:
                (call,) = delta["tool_calls"]
                yield from self._call_grown(**call)

    def end(self, completion: Completion, status: str) -> Iterator[Event]:
        """Events after the last token."""
        if self._calls:
            yield from self._end_call(len(self._calls) - 1)
            return
        yield from self._begin_message()
        if self._untold:
            yield self._grown("")
        (item,) = self.told(completion, status)
        (part,) = item["content"]
        place = self._place
        yield "response.output_text.done", {**place, "text": part["text"], "logprobs": part["logprobs"]}
        yield "response.content_part.done", {**place, "part": part}
        yield "response.output_item.done", {"output_index": 0, "item": item}

    @property
    def _calls(self) -> list[Call]:
        return self._reader.calls if self._reader else []

    @property
    def _place(self) -> Plain:
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def _begin_message(self) -> Iterator[Event]:
        if self._has_begun:
            return
        self._has_begun = True
        item = self._message("in_progress", [])
        yield "response.output_item.added", {"output_index": 0, "item": item}
        yield "response.content_part.added", {**self._place, "part": _part("", [])}

    def _grown(self, text: str) -> Event:
        told, self._untold = self._untold, []
        return "response.output_text.delta", {**self._place, "delta": text, "logprobs": told}

    def _call_grown(
        self, index: int, function: Plain, id: str | None = None, type: str | None = None
    ) -> Iterator[Event]:
        """The events of a change of call `index`, in the words of chats: its begin has an id, others none."""
        if id is not None:
            if index > 0:
                yield from self._end_call(index - 1)
            item = {**self._call_item(index), "status": "in_progress", "arguments": ""}
            yield "response.output_item.added", {"output_index": index, "item": item}
        if function["arguments"]:
            place = {"item_id": self._call_id(index), "output_index": index}
            yield "response.function_call_arguments.delta", {**place, "delta": function["arguments"]}

    def _end_call(self, index: int) -> Iterator[Event]:
        item, place = self._call_item(index), {"output_index": index}
        told = {"item_id": item["id"], **place, "name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", told
        yield "response.output_item.done", {**place, "item": item}

    def _call_item(self, index: int) -> Plain:
        call = self._calls[index]
        return {
            "id": self._call_id(index),
            "type": "function_call",
            "status": "completed" if call.is_whole else "incomplete",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }

    def _call_id(self, index: int) -> str:
        while len(self._call_ids) <= index:
            self._call_ids.append("fc_" + secrets.token_hex(12))
        return self._call_ids[index]

    def _message(self, status: str, content: list[Plain]) -> Plain:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _logprobs(self, part: Completion | Piece) -> list[Plain]:
        return chosen_tokens(self._tokenizer, part) if part.logprobs is not None else []


def _part(text: str, logprobs: list[Plain]) -> Plain:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
