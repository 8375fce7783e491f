"""Answers of /v1/completions in the API's words."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence as List
from dataclasses import dataclass
from itertools import chain
from typing import Any

from weft import __version__
from weft.io.text.tokenizer import Tokenizer
from weft.serve.sequence import Sequence
from weft.server.token_text import finite, token_text
from weft.tasks.completion import Completion, Piece

Alternatives = dict[int, float]


@dataclass(frozen=True)
class PromptEcho:
    """A prompt to be given back; `scored` is the request for its log-probabilities, where wanted."""

    text: str
    tokens: list[int]
    scored: Sequence | None
    wants_logprobs: bool

    def logprobs(self) -> tuple[List[float | None], List[Alternatives | None]]:
        """Of each token; the first has none before it."""
        assert self.scored is not None
        scores = [float(value) for value in chain.from_iterable(self.scored.scores)]
        others = self.scored.alternatives or [{} for _ in scores]
        return [None, *scores], [None, *others]


class CompletionWriter:
    """Writes one response; text offsets go on from chunk to chunk."""

    def __init__(self, model: str, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offsets: dict[int, int] = {}
        self._head = {
            "id": "cmpl-" + secrets.token_hex(12),
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"weft-{__version__}",
        }

    def content(self, choices: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """The object around choices."""
        return {**self._head, "choices": choices, **extra}

    def choice(
        self, index: int, part: Completion | Piece | None, echo: PromptEcho | None = None
    ) -> dict[str, Any]:
        """A choice: the answer or a piece of it, after its echoed prompt where there is one."""
        told = self.echo(index, echo, "length") if echo is not None else None
        if part is None:
            assert told is not None
            return told
        choice: dict[str, Any] = {
            "index": index,
            "text": part.text,
            "logprobs": self._answer_logprobs(index, part),
            "finish_reason": part.finish_reason,
        }
        if told is not None:
            choice["text"] = told["text"] + part.text
            choice["logprobs"] = _joined(told["logprobs"], choice["logprobs"])
        return choice

    def echo(self, index: int, echo: PromptEcho | None, finish_reason: str | None) -> dict[str, Any]:
        """A choice of the prompt alone."""
        assert echo is not None
        listed = None
        if echo.wants_logprobs:
            listed = self._logprobs(index, echo.tokens, *echo.logprobs())
        return {"index": index, "text": echo.text, "logprobs": listed, "finish_reason": finish_reason}

    def _answer_logprobs(self, index: int, part: Completion | Piece) -> dict[str, Any] | None:
        if part.logprobs is None:
            return None
        others = part.top_logprobs or tuple({} for _ in part.token_ids)
        return self._logprobs(index, part.token_ids, part.logprobs, others)

    def _logprobs(
        self,
        index: int,
        tokens: List[int],
        logprobs: List[float | None],
        alternatives: List[Alternatives | None],
    ) -> dict[str, Any]:
        texts = [token_text(self._tokenizer, token) for token in tokens]
        offset, offsets = self._offsets.get(index, 0), []
        for text in texts:
            offsets.append(offset)
            offset += len(text)
        self._offsets[index] = offset
        return {
            "tokens": texts,
            "token_logprobs": [None if value is None else finite(value) for value in logprobs],
            "top_logprobs": [None if others is None else self._texts_of(others) for others in alternatives],
            "text_offset": offsets,
        }

    def _texts_of(self, alternatives: Alternatives) -> dict[str, float]:
        """By their texts; of several tokens with the same text the likeliest, which comes first."""
        texts: dict[str, float] = {}
        for token, value in alternatives.items():
            texts.setdefault(token_text(self._tokenizer, token), finite(value))
        return texts


def _joined(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any] | None:
    if first is None or second is None:
        return first or second
    return {name: [*first[name], *second[name]] for name in first}
