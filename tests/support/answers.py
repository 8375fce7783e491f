"""Answers as comparable bits, for tests that hold them to be the same however they came about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weft import Completion, Model

Answer = tuple[Any, ...]
"""Text, token ids, why it ended, and the raw bits of all log-probabilities."""


@dataclass(frozen=True)
class Request:
    """A prompt with the settings of its sampling."""

    prompt: list[int]
    settings: dict[str, Any] = field(default_factory=dict)


def bits(values: Iterable[float]) -> tuple[int, ...]:
    """float32 numbers as their raw bits: equal where the numbers are, NaN and signs of zero told apart."""
    return tuple(np.array(list(values), np.float32).view(np.uint32).tolist())


def answer_of(completion: Completion) -> Answer:
    """All that must not change of an answer."""
    tops = [(tuple(top), bits(top.values())) for top in completion.top_logprobs or ()]
    logprobs = bits(completion.logprobs or ())
    return completion.text, completion.token_ids, completion.finish_reason, logprobs, tuple(tops)


def answers(model: Model, requests: Sequence[Request], batch: int = 64) -> list[Answer]:
    """The answers to `requests`, `batch` of them at once, each with its own settings."""
    done = []
    for first in range(0, len(requests), batch):
        streams = [model.stream(r.prompt, **r.settings) for r in requests[first : first + batch]]
        for stream in streams:
            for _ in stream:
                pass
            done.append(answer_of(stream.completion))
    return done


def scores(model: Model, texts: Sequence[list[int]]) -> list[tuple[int, ...]]:
    """The raw bits of the log-probabilities of `texts`, all at once."""
    return [bits(values) for values in model.score(list(texts))]


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.3, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    {"temperature": 0.8, "top_k": 17, "top_p": 1.0, "min_p": 0.0},
    {"temperature": 1.0, "top_k": 0, "top_p": 0.7, "min_p": 0.0},
    {"temperature": 1.1, "top_k": 0, "top_p": 1.0, "min_p": 0.1},
    {"temperature": 0.9, "top_k": 50, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.3},
    {"temperature": 0.0, "presence_penalty": 0.7, "frequency_penalty": 0.4},
    {"temperature": 1.0, "logit_bias": {5: 4.0, 7: -100.0}, "repetition_penalty": 0.9},
]


def random_requests(count: int, vocabulary: int, longest: int, max_tokens: int) -> list[Request]:
    """Prompts of 1 to `longest` tokens, long and short in turn, with every kind of settings."""
    generator = np.random.default_rng(11)
    requests = []
    for number in range(count):
        length = int(generator.integers(1, longest if number % 4 == 0 else 24))
        settings = SETTINGS[number % len(SETTINGS)] | {
            "seed": number,
            "max_tokens": max_tokens,
            "logprobs": number % 5,
            "ignore_eos": number % 3 > 0,
        }
        requests.append(Request(generator.integers(0, vocabulary, length).tolist(), settings))
    return requests
