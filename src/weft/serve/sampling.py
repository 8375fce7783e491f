"""How the next token is chosen: the settings of one request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from weft.config import check_count, plain_number, setting
from weft.errors import ConfigError
from weft.serve.constraint import Constraint, ConstraintKind, schema_text

MAX_ALTERNATIVES = 20
MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 1024
MAX_LOGIT_BIAS = 1024
MAX_BIAS = 1e30
_SEED_LIMIT = 1 << 64
_PRIORITY_LIMIT = 1 << 31

# Lowest and highest value of each number, and whether the lowest itself is left out. Those that sampling
# computes with are far from what overflows or vanishes in float32, however they are combined: a step is of
# many requests, and an error ends them all.
RANGES = {
    "temperature": (0.0, 100.0, False),
    "top_p": (1e-6, 1.0, False),
    "min_p": (0.0, 1.0, False),
    "repetition_penalty": (1e-6, 100.0, False),
    "presence_penalty": (-100.0, 100.0, False),
    "frequency_penalty": (-100.0, 100.0, False),
    "timeout": (0.0, 7 * 86400.0, True),  # seconds
}


@dataclass(frozen=True)
class SamplingParams:
    """Settings of one request's sampling, validated when made. Raises ConfigError.

    `logprobs`: False for none, True for those of the tokens drawn, a number for as many of the likeliest
    tokens besides. `max_tokens` None means up to the end of the context. `stop` holds strings that end the
    answer and are not part of it; `stop_token_ids` tokens that do so. `logit_bias` maps token ids to what is
    added to their logits. Temperature 0 takes the likeliest token. Penalties count as follows: repetition
    over prompt and answer, presence and frequency over the answer. Of waiting requests those with the lowest
    `priority` are served first, then those that came first. `timeout`: seconds from now on after which the
    answer ends with what has come.

    At most one of `regex`, `json_schema` (a mapping, or its text) and `grammar` (Lark, or GBNF as llama.cpp
    has it) says what the whole answer must be; tokens that do not lead there are never drawn.
    """

    temperature: float = setting(
        0.8, "--temp", "--temperature", help="Randomness; 0 takes the likeliest token."
    )
    top_k: int = setting(40, "--top-k", help="Draw among this many likeliest tokens; 0 for all.")
    top_p: float = setting(
        0.95, "--top-p", help="Draw among the likeliest tokens that reach this probability."
    )
    min_p: float = setting(
        0.05, "--min-p", help="Drop tokens below this share of the likeliest one's probability."
    )
    repetition_penalty: float = setting(
        1.0, "--repeat-penalty", help="Divide the logits of tokens that occurred; 1 changes nothing."
    )
    presence_penalty: float = setting(
        0.0, "--presence-penalty", help="Subtract from tokens already answered."
    )
    frequency_penalty: float = setting(
        0.0, "--frequency-penalty", help="Subtract from tokens already answered, for each time."
    )
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = setting(None, "--seed", help="Draw the same again; by default a new seed each time.")
    logprobs: bool | int = setting(
        False, "--logprobs", help="Give log-probabilities, with this many alternatives a token."
    )
    max_tokens: int | None = setting(128, "-n", "--max-tokens", help="Most tokens to answer with.")
    stop: str | tuple[str, ...] = setting(
        (), "--stop", help="End the answer before this text; may be repeated."
    )
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = setting(False, "--ignore-eos", help="Go on past the end of the text, for measuring.")
    priority: int = 0
    timeout: float | None = None
    regex: str | None = setting(None, "--regex", help="Answer with a text of this regular expression.")
    json_schema: str | bool | Mapping[str, Any] | None = setting(
        None, "--json-schema", help="Answer with JSON of the schema in this file."
    )
    grammar: str | None = setting(
        None, "--grammar", help="Answer with a text of the grammar in this file, in GBNF or Lark."
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if (plain := plain_number(value)) is not value:
                object.__setattr__(self, name, plain)
        _check_ranges(self)
        _check_whole_numbers(self)
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "stop_token_ids", _token_ids(self.stop_token_ids))
        object.__setattr__(self, "logit_bias", _logit_bias(self.logit_bias))
        if self.json_schema is not None:
            object.__setattr__(self, "json_schema", schema_text(self.json_schema))
        _check_constraints(self)

    @classmethod
    def make(cls, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> SamplingParams:
        """From `settings` over `defaults`, by name. Raises ConfigError for a name that does not exist."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise ConfigError(
                f"Expected sampling settings among {', '.join(known)}, got {', '.join(unknown)}; "
                "correct the name."
            )
        return cls(**{**(defaults or {}), **settings})

    @property
    def constraint(self) -> Constraint | None:
        """What the whole answer must be, where that is said."""
        for kind in ConstraintKind:
            if (text := getattr(self, kind)) is not None:
                return Constraint(kind, text)
        return None

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are given at all."""
        return self.logprobs is not False

    @property
    def num_alternatives(self) -> int:
        """How many of the likeliest tokens are given besides the one drawn."""
        return 0 if isinstance(self.logprobs, bool) else self.logprobs

    @property
    def penalizes(self) -> bool:
        """Whether the tokens so far change the logits."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def _check_constraints(params: SamplingParams) -> None:
    given = [str(kind) for kind in ConstraintKind if getattr(params, kind) is not None]
    if not given:
        return
    if len(given) > 1:
        raise ConfigError(
            f"Expected one of regex, json_schema and grammar, got {', '.join(given)}; choose one."
        )
    if params.ignore_eos:
        raise ConfigError(f"Expected ignore_eos without {given[0]}, got both; leave one out.")
    constraint = params.constraint
    if not isinstance(constraint.text if constraint else None, str):
        raise ConfigError(f"Expected {given[0]} as a text, got {getattr(params, given[0])!r}; pass a text.")
    assert constraint is not None
    constraint.check()


def _check_ranges(params: SamplingParams) -> None:
    for name, (low, high, open_low) in RANGES.items():
        if name == "timeout" and params.timeout is None:
            continue
        value = _number(name, getattr(params, name))
        if value < low or value > high or (open_low and value == low):
            above = "above" if open_low else "from"
            raise ConfigError(
                f"Expected {name} {above} {low:g} to {high:g}, got {value:g}; choose one in between."
            )
        object.__setattr__(params, name, value)


def _check_whole_numbers(params: SamplingParams) -> None:
    _check_range("top_k", params.top_k, 0, 1 << 30)
    if params.seed is not None:
        _check_range("seed", params.seed, 0, _SEED_LIMIT - 1)
    if params.max_tokens is not None:
        check_count("max_tokens", params.max_tokens)
    _check_range("priority", params.priority, -_PRIORITY_LIMIT, _PRIORITY_LIMIT)
    if params.logprobs is None:
        object.__setattr__(params, "logprobs", False)
    if not isinstance(params.logprobs, bool):
        _check_range("logprobs", params.logprobs, 0, MAX_ALTERNATIVES)
    if not isinstance(params.ignore_eos, bool):
        raise ConfigError(
            f"Expected ignore_eos to be True or False, got {params.ignore_eos!r}; pass one of them."
        )


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(
            f"Expected {name} to be a whole number from {low} to {high}, got {value!r}; "
            "choose one in between."
        )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"Expected {name} to be a finite number, got {value!r}; pass a number.")
    return float(value)


def _stop_strings(stop: object) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if strings is None:
        return ()
    if not isinstance(strings, (tuple, list)) or not all(isinstance(text, str) and text for text in strings):
        raise ConfigError(f"Expected stop to be texts that are not empty, got {stop!r}; remove the others.")
    longest = max((len(text.encode()) for text in strings), default=0)
    if len(strings) > MAX_STOP_STRINGS or longest > MAX_STOP_BYTES:
        raise ConfigError(
            f"Expected at most {MAX_STOP_STRINGS} stop strings of {MAX_STOP_BYTES} bytes, got "
            f"{len(strings)} of up to {longest} bytes; use fewer or shorter ones."
        )
    return tuple(strings)


def _token_ids(ids: object) -> tuple[int, ...]:
    if not isinstance(ids, (tuple, list, set, frozenset)):
        raise ConfigError(f"Expected stop_token_ids to be a list of token ids, got {ids!r}; pass a list.")
    for number in ids:
        _check_range("a stop token id", number, 0, (1 << 31) - 1)
    return tuple(ids)


def _logit_bias(bias: object) -> dict[int, float] | None:
    if bias is None or bias == {}:
        return None
    if not isinstance(bias, Mapping):
        raise ConfigError(
            f"Expected logit_bias to map token ids to numbers, got {bias!r}; pass a dictionary."
        )
    if len(bias) > MAX_LOGIT_BIAS:
        raise ConfigError(
            f"Expected logit_bias for at most {MAX_LOGIT_BIAS} tokens, got {len(bias)}; pass fewer."
        )
    for number in bias:
        _check_range("a token id of logit_bias", number, 0, (1 << 31) - 1)
    values = {number: _number("a value of logit_bias", value) for number, value in bias.items()}
    largest = max(values.values(), key=abs)
    if abs(largest) > MAX_BIAS:
        raise ConfigError(
            f"Expected values of logit_bias from {-MAX_BIAS:g} to {MAX_BIAS:g}, got {largest:g}; "
            "choose one in between."
        )
    return values
