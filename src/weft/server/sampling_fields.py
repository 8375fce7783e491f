"""The fields of requests that choose tokens, common to the endpoints that answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from weft.serve.sampling import RANGES
from weft.server.errors import ApiError

MAX_CHOICES = 128


def _described(name: str) -> Meta:
    """What the API's description says of a number; `SamplingParams` checks it, with a better message."""
    low, high, open_low = RANGES[name]
    return Meta(extra_json_schema={"exclusiveMinimum" if open_low else "minimum": low, "maximum": high})


Count = Annotated[int, Meta(ge=1, le=1 << 31)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    """Whether a stream ends with the number of tokens, and, as vLLM has it, whether each event has it."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool = False


class SamplingFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of OpenAI's API and, as vLLM has them, those of weft's own sampling.

    What is None is left to the model's recommendation, then to weft's default.
    """

    model: str | None = None
    temperature: Annotated[float, _described("temperature")] | None = None
    top_p: Annotated[float, _described("top_p")] | None = None
    top_k: int | None = None
    min_p: Annotated[float, _described("min_p")] | None = None
    repetition_penalty: Annotated[float, _described("repetition_penalty")] | None = None
    presence_penalty: Annotated[float, _described("presence_penalty")] | None = None
    frequency_penalty: Annotated[float, _described("frequency_penalty")] | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    priority: int | None = None
    timeout: Annotated[float, _described("timeout")] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Who asks and for what: noted by nobody here, and without effect on the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None  # equal begins are found without it
    # Taken with the one value that says what weft does anyway.
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None

    @property
    def num_choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def wants_usage_so_far(self) -> bool:
        """Whether each event before says how many there are by then."""
        return self.wants_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)

    def sampling(self) -> dict[str, Any]:
        """The fields that were given, by the names of `weft.SamplingParams`."""
        if self.stream_options is not None and not self.stream:
            raise ApiError(
                400,
                "Expected stream_options with stream alone, got it without; set stream to true.",
                param="stream_options",
            )
        given = {name: getattr(self, name) for name in _SAMPLING}
        return {name: value for name, value in given.items() if value is not None}


_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "priority",
    "timeout",
)


def decoder_of(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    """A decoder for bodies of that kind."""
    return msgspec.json.Decoder(kind)
