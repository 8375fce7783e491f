"""Prompts to answers: many at once, or one piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as List
from dataclasses import replace
from typing import Any, Self

import numpy as np

from weft.errors import ConfigError, Interrupted, PromptError
from weft.io.text.tokenizer import Tokenizer
from weft.serve.detokenizer import Detokenizer
from weft.serve.engine import Engine
from weft.serve.matchers import MatcherFactory
from weft.serve.sampling import SamplingParams
from weft.serve.sequence import Purpose, Sequence
from weft.tasks.completion import AnswerReader, Completion, Piece
from weft.types import Array

Prompt = str | List[int] | Array
"""A text, or token ids."""


class Generator:
    """Makes requests of prompts and answers of requests, over one engine. Any thread may use it.

    end_ids: tokens that end a text. defaults: sampling settings that the model recommends.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        vocabulary_size: int,
        end_ids: Iterable[int] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.end_ids = frozenset(end_ids)
        self.defaults = dict(defaults or {})
        self.matchers = MatcherFactory(tokenizer, vocabulary_size, self.end_ids)

    def generate(
        self, prompts: Prompt | List[Prompt], adapter: int | List[int] = 0, **sampling: Any
    ) -> list[Completion]:
        """An answer for each prompt, in their order; a single prompt gives a list of one.

        adapter: its number in the model's bank, or one for each prompt. sampling: fields of `SamplingParams`.
        Raises PromptError, ConfigError; on Ctrl-C Interrupted, with the answers as far as they came.
        """
        params = self.sampling(sampling)
        listed = prompt_list(prompts)
        numbers = [adapter] * len(listed) if isinstance(adapter, int) else adapter
        if len(numbers) != len(listed):
            raise ConfigError(
                f"Expected an adapter for each of {len(listed)} prompts, got {len(numbers)}; pass as many."
            )
        sequences = [
            self.request(prompt, params, adapter=number)
            for prompt, number in zip(listed, numbers, strict=True)
        ]
        self.engine.submit(sequences)
        readers = [AnswerReader(sequence, self.tokenizer) for sequence in sequences]
        try:
            self.engine.wait(sequences)
        except KeyboardInterrupt:
            self.engine.cancel(sequences)
            raise Interrupted([reader.completion() for reader in readers]) from None
        except BaseException:
            self.engine.cancel(sequences)
            raise
        return [reader.completion() for reader in readers]

    def stream(self, prompt: Prompt, adapter: int = 0, **sampling: Any) -> Stream:
        """The answer to `prompt`, piece by piece. Raises as `generate` does, at once for a bad prompt."""
        sequence = self.request(prompt, self.sampling(sampling), adapter=adapter)
        self.engine.submit([sequence])
        return Stream(self.engine, AnswerReader(sequence, self.tokenizer))

    def sampling(self, settings: Mapping[str, Any]) -> SamplingParams:
        """`settings` over what the model recommends. Raises ConfigError."""
        params = SamplingParams.make(settings, self.defaults)
        for name in ("stop_token_ids", "logit_bias"):
            largest = max(getattr(params, name) or (), default=0)
            if largest >= self.vocabulary_size:
                raise ConfigError(
                    f"Expected token ids below {self.vocabulary_size} in {name}, got {largest}; use ids of "
                    "this model's tokenizer."
                )
        return params

    def request(self, prompt: Prompt, params: SamplingParams, stream: int = 0, adapter: int = 0) -> Sequence:
        """The request that `prompt` makes. Raises PromptError."""
        return self._request(self.tokens_of(prompt), params, stream, adapter)

    def _request(self, tokens: Array, params: SamplingParams, stream: int, adapter: int) -> Sequence:
        longest = self.engine.limits.max_length
        length = longest if params.max_tokens is None else min(longest, len(tokens) + params.max_tokens)
        stops = params.stop
        assert isinstance(stops, tuple)
        return Sequence(
            tokens,
            params,
            max_length=length,
            seed=self.engine.new_seed() if params.seed is None else params.seed,
            stream=stream,
            end_ids=frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self.end_ids),
            detokenizer=Detokenizer(self.tokenizer.stream_decoder(), stops) if stops else None,
            adapter=adapter,
            matcher=self.matchers.new(params.constraint) if params.constraint else None,
        )

    def choices(self, prompt: Prompt, params: SamplingParams, count: int, adapter: int = 0) -> list[Sequence]:
        """Requests for `count` answers to one prompt, drawn with one seed and streams 0, 1, 2... of it.

        Raises PromptError.
        """
        first = self.request(prompt, params, adapter=adapter)
        params = replace(params, seed=first.seed)
        return [first, *(self._request(first.prompt, params, stream, adapter) for stream in range(1, count))]

    def scoring_request(self, text: Prompt, num_alternatives: int = 0, adapter: int = 0) -> Sequence:
        """The request for the log-probabilities of `text`, and at each place of the likeliest tokens.

        Raises PromptError.
        """
        tokens = self.tokens_of(text)
        params = SamplingParams(logprobs=num_alternatives or False)
        return Sequence(tokens, params, purpose=Purpose.SCORE, max_length=len(tokens), adapter=adapter)

    def tokens_of(self, prompt: Prompt) -> Array:
        """Token ids i32[n] of a text or of token ids. Raises PromptError, TokenizerError."""
        tokens = np.array(self.tokenizer.encode(prompt), np.int64) if isinstance(prompt, str) else prompt
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise PromptError(
                f"Expected a prompt as text or as a list of token ids, got {str(prompt)[:60]!r}; "
                "pass one of them."
            )
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocabulary_size:
            outside = next(int(token) for token in tokens if not 0 <= token < self.vocabulary_size)
            raise PromptError(
                f"Expected token ids from 0 to {self.vocabulary_size - 1}, got {outside}; "
                "use this model's tokenizer."
            )
        return tokens.astype(np.int32, copy=tokens is prompt)  # the caller may change what it passed


class Stream:
    """The pieces of an answer as they come: iterate over it. Closing or dropping it cancels the rest.

    For one thread at a time; different streams may be read by different threads.
    """

    def __init__(self, engine: Engine, reader: AnswerReader) -> None:
        self._engine = engine
        self._reader = reader
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        if self._ended:
            raise StopIteration
        try:
            self._engine.wait_for_output(self._reader.sequence, self._reader.num_read)
        except BaseException:
            self.close()
            raise
        piece = self._reader.read()
        self._ended = piece.finish_reason is not None
        return piece

    @property
    def completion(self) -> Completion:
        """The answer as far as it has come; whole once the stream is at its end."""
        return self._reader.completion()

    def close(self) -> None:
        """Cancels what has not come yet."""
        self._ended = True
        self._engine.cancel([self._reader.sequence])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Here no lock may be taken: this can run within a step, on the thread that holds it.
        self._engine.cancel_later(self._reader.sequence)


def prompt_list(prompts: Prompt | List[Prompt]) -> list[Prompt]:
    """`prompts` as a list: a text or a list of token ids is a single one. Raises PromptError."""
    if isinstance(prompts, str) or (isinstance(prompts, np.ndarray) and prompts.ndim == 1):
        return [prompts]
    if isinstance(prompts, bytes | bytearray | Mapping) or not isinstance(prompts, Iterable):
        raise PromptError(
            f"Expected prompts as texts or as lists of token ids, got {type(prompts).__name__}; pass "
            "one of them."
        )
    items: list[Any] = list(prompts)
    if items and all(isinstance(item, (int, np.integer)) for item in items):
        return [items]
    return items
