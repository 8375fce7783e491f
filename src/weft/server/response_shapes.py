"""What answers of /v1/responses look like, for the API's description; the events are told apart by `type`."""

from __future__ import annotations

from typing import Any, Literal

from weft.server.response_input import FlatFunction, NamedFunction, TextOptions
from weft.server.shapes import ChosenToken, Shape

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(Shape):
    """The text of an answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ChosenToken]


class OutputMessage(Shape, tag_field="type", tag="message"):
    """The model's turn."""

    id: str
    role: Literal["assistant"]
    status: Status
    content: list[OutputText]


class FunctionCall(Shape, tag_field="type", tag="function_call"):
    """A call of a function that was offered; `arguments` is JSON as a text."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


class InputTokensDetails(Shape):
    """Of the input's tokens: found in the cache, and computed and kept in it."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Shape):
    """Of the answer's tokens."""

    reasoning_tokens: int


class ResponseUsage(Shape):
    """How many tokens it took."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Shape):
    """Why an answer is not complete; a full context counts as the limit."""

    reason: Literal["max_output_tokens"]


class ResponseError(Shape):
    """Why a response failed after it began."""

    code: Literal["server_error"]
    message: str


class ResponseObject(Shape):
    """A response as far as it came."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Status
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    metadata: dict[str, str]
    output: list[OutputMessage | FunctionCall]
    usage: ResponseUsage | None
    text: TextOptions
    tools: list[FlatFunction]
    tool_choice: Literal["none", "auto", "required"] | NamedFunction
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    truncation: Literal["disabled"]
    background: Literal[False]


class ResponseEvent(Shape):
    """The response as it began or ended."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    sequence_number: int
    response: ResponseObject


class OutputItemEvent(Shape):
    """An item began or ended."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    sequence_number: int
    output_index: int
    item: OutputMessage | FunctionCall


class ContentPartEvent(Shape):
    """A part of a message began or ended."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class TextDeltaEvent(Shape):
    """A text grew."""

    type: Literal["response.output_text.delta"]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[ChosenToken]


class TextDoneEvent(Shape):
    """A text is complete."""

    type: Literal["response.output_text.done"]
    sequence_number: int
    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[ChosenToken]


class ArgumentsDeltaEvent(Shape):
    """The arguments of a call grew."""

    type: Literal["response.function_call_arguments.delta"]
    sequence_number: int
    item_id: str
    output_index: int
    delta: str


class ArgumentsDoneEvent(Shape):
    """The arguments of a call are complete, or cut by the limit."""

    type: Literal["response.function_call_arguments.done"]
    sequence_number: int
    item_id: str
    output_index: int
    name: str
    arguments: str


RESPONSE_EVENTS = (
    ResponseEvent,
    OutputItemEvent,
    ContentPartEvent,
    TextDeltaEvent,
    TextDoneEvent,
    ArgumentsDeltaEvent,
    ArgumentsDoneEvent,
)
