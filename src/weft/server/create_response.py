"""POST /v1/responses: the answer to a text or to items, in the words of OpenAI's newer API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from weft.errors import WeftError
from weft.serve.constraint import Constraint
from weft.serve.sequence import Sequence
from weft.server.answer_format import GuidedFields, given_format
from weft.server.body import read_struct
from weft.server.errors import ApiError, of_weft
from weft.server.response_input import FlatFunction, InputItem, NamedFunction, TextOptions, messages_of
from weft.server.response_writer import ResponseWriter
from weft.server.responses import reply
from weft.server.sampling_fields import Count, decoder_of
from weft.server.service import Service
from weft.server.tool_fields import Choice, ToolOffer
from weft.server.tool_prompt import prompt_of
from weft.server.tools import MAX_TOOLS
from weft.tasks.model import Model

LOGPROBS = "message.output_text.logprobs"


class ResponseRequest(GuidedFields, kw_only=True):
    """The body of the request. Nothing is stored: each request brings the whole conversation."""

    input: str | Annotated[list[InputItem], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    text: TextOptions | None = None
    # What has one value here.
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    previous_response_id: None = None
    tools: Annotated[list[FlatFunction], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Choice | NamedFunction | None = None
    parallel_tool_calls: bool | None = None

    @property
    def offer(self) -> ToolOffer:
        """The functions that are offered."""
        tools = [function.tool() for function in self.tools or ()]
        choice, parallel = self.tool_choice or "auto", self.parallel_tool_calls is not False
        if isinstance(choice, NamedFunction):
            return ToolOffer(tools, named=choice.name, parallel=parallel)
        return ToolOffer(tools, choice, parallel=parallel)

    @property
    def is_constrained(self) -> bool:
        """Whether there may be a constraint to prepare, which takes its time."""
        return self.offer.may_call or super().is_constrained

    def given_constraints(self) -> dict[str, Any]:
        """The fields that constrain the answer, those that were given."""
        return given_format("text.format", self.text and self.text.format) | super().given_constraints()

    def constraint(self) -> Constraint | None:
        """What the whole answer must be, calls included. Raises ApiError, with the field."""
        return self.offer.constraint(super().constraint())

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as a chat template has it. Raises ApiError."""
        first = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*first, {"role": "user", "content": self.input}]
        return [*first, *messages_of(self.input)]

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
    sequence = await service.prepare(
        1,
        length,
        lambda: _sequence(service.model, body, messages, adapter),
        takes_long=body.is_constrained,
    )
    writer = ResponseWriter(service.model.tokenizer, body.model or service.served.name, body, sequence)
    run = service.run([sequence], streams=bool(body.stream))
    events = writer.events(run) if body.stream else None
    return await reply(request, run, events, lambda completions: writer.whole(completions[0]))


def _sequence(model: Model, body: ResponseRequest, messages: list[dict[str, Any]], adapter: int) -> Sequence:
    try:
        params = model.generator.sampling(body.settings())
        tokens = prompt_of(model.chatter, messages, body.offer.offered())
        return model.generator.choices(tokens, params, 1, adapter)[0]
    except WeftError as error:
        raise of_weft(error, (*body.__struct_fields__,)) from error
