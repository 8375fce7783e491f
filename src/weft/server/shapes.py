"""What answers look like, for the API's description. A test holds what is served against it."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

FinishReason = Literal["stop", "length", "timeout"]
ChatFinishReason = Literal["stop", "length", "timeout", "tool_calls"]


class Shape(Struct, forbid_unknown_fields=True, kw_only=True):
    """An object that has these fields and no others."""


class ErrorObject(Shape):
    """What was wrong; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Shape):
    """The body of every refusal."""

    error: ErrorObject


class PromptTokensDetails(Shape):
    """Of the prompts' tokens."""

    cached_tokens: int


class Usage(Shape):
    """How many tokens it took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class LikelyToken(Shape):
    """A token and the logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(LikelyToken):
    """A token of the answer, with the likeliest ones in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Shape):
    """Of each token of the answer."""

    content: list[ChosenToken]
    refusal: None


class Called(Shape):
    """A function and its arguments, JSON as a text."""

    name: str
    arguments: str


class AnswerCall(Shape):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: Called


class AnswerMessage(Shape):
    """The model's turn: a text, or calls of tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[AnswerCall] | UnsetType = UNSET


class ChatChoice(Shape):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason


class ChatCompletion(Shape):
    """The answer to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class CalledDelta(Shape):
    """The name with the first delta of a call, then more of the arguments."""

    arguments: str
    name: str | UnsetType = UNSET


class CallDelta(Shape):
    """What the call `index` grew by; its first delta has the id."""

    index: int
    function: CalledDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChatDelta(Shape):
    """What a message grew by."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET


class ChatChunkChoice(Shape):
    """One of `n` answers, as far as it grew."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason | None


class ChatChunk(Shape):
    """An event of a streamed answer; the last one has the usage, where it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class CompletionLogprobs(Shape):
    """Of each token; the first of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Shape):
    """One of the prompts' answers, or what it grew by."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Shape):
    """Prompts continued; streamed, an event of this form."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET


class ServedModel(Shape):
    """A model that answers here, or an adapter of the one that is its `parent`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    parent: str | UnsetType = UNSET


class ModelList(Shape):
    """All models."""

    object: Literal["list"]
    data: list[ServedModel]


class TokenIds(Shape):
    """A text in token ids."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizedText(Shape):
    """Token ids as text."""

    prompt: str


class Health(Shape):
    """How the server is."""

    status: Literal["ok", "failed", "ready", "not ready"]


class Version(Shape):
    """weft's version."""

    version: str
