"""POST /v1/responses: the answer to a text or to items, in the words of OpenAI's newer API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from weft.errors import WeftError
from weft.serve.sequence import Sequence
from weft.server.body import read_struct
from weft.server.errors import ApiError, of_weft
from weft.server.response_writer import ResponseWriter
from weft.server.responses import reply
from weft.server.sampling_fields import Count, SamplingFields, decoder_of
from weft.server.service import Service
from weft.tasks.model import Model

LOGPROBS = "message.output_text.logprobs"


class InputPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """A part of an item; what only answers have may come back."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputItem(Struct, forbid_unknown_fields=True, kw_only=True):
    """A turn of the conversation; an item of an earlier answer may come back as it was."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputPart]
    type: Literal["message"] = "message"
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def plain(self) -> dict[str, str]:
        """The turn as a chat template has it."""
        content = self.content
        if not isinstance(content, str):
            content = "\n".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class PlainFormat(Struct, forbid_unknown_fields=True):
    """Free text."""

    type: Literal["text"]


class TextOptions(Struct, forbid_unknown_fields=True):
    """What kind of text is answered."""

    format: PlainFormat | None = None


class ResponseRequest(SamplingFields, kw_only=True):
    """The body of the request. Nothing is stored: each request brings the whole conversation."""

    input: str | Annotated[list[InputItem], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    text: TextOptions | None = None
    # What has one value here.
    background: Literal[False] | None = None
    store: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    previous_response_id: None = None
    # Of tools, of which there are none.
    tools: Annotated[list[Any], Meta(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None

    def messages(self) -> list[dict[str, str]]:
        """The conversation as a chat template has it."""
        first = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*first, {"role": "user", "content": self.input}]
        return [*first, *(item.plain() for item in self.input)]

    def settings(self) -> dict[str, Any]:
        """The fields as settings of `weft.SamplingParams`. Raises ApiError."""
        if self.num_choices != 1:
            raise ApiError(400, f"Expected n of 1, got {self.n}; leave it out.", param="n")
        settings = self.sampling() | {"max_tokens": self.max_output_tokens}
        if LOGPROBS in (self.include or ()):
            settings["logprobs"] = self.top_logprobs or True
        return settings


RESPONSE_DECODER = decoder_of(ResponseRequest)


async def create_response(request: Request) -> Response:
    """Answers a text or items, whole or as server-sent events."""
    service: Service = request.app.state.service
    body: ResponseRequest = await read_struct(request, RESPONSE_DECODER, service.config.max_body_bytes)
    adapter = service.served.adapter(body.model)
    messages = body.messages()
    length = sum(len(message["content"]) for message in messages)
    sequence = await service.prepare(1, length, lambda: _sequence(service.model, body, messages, adapter))
    writer = ResponseWriter(service.model.tokenizer, body.model or service.served.name, body, sequence)
    run = service.run([sequence], streams=bool(body.stream))
    events = writer.events(run) if body.stream else None
    return await reply(request, run, events, lambda completions: writer.whole(completions[0]))


def _sequence(model: Model, body: ResponseRequest, messages: list[dict[str, str]], adapter: int) -> Sequence:
    try:
        params = model.generator.sampling(body.settings())
        return model.generator.choices(model.chatter.tokens(messages), params, 1, adapter)[0]
    except WeftError as error:
        raise of_weft(error, (*body.__struct_fields__,)) from error
