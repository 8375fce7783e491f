"""POST /v1/completions: texts that go on where prompts end; with echo, the prompts too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from weft.errors import WeftError
from weft.serve.sequence import Sequence
from weft.server.answer_format import ConstraintFields
from weft.server.body import read_struct
from weft.server.completion_writer import CompletionWriter, PromptEcho
from weft.server.errors import ApiError, of_weft
from weft.server.responses import DONE, event, reply
from weft.server.run import Run
from weft.server.sampling_fields import decoder_of
from weft.server.served import Served
from weft.server.service import Service
from weft.server.usage import usage_of
from weft.tasks.completion import Completion
from weft.tasks.fill_in import fill_in_prompt
from weft.tasks.generate import Generator
from weft.types import Array

DEFAULT_MAX_TOKENS = 16  # OpenAI's
MAX_PROMPTS = 1024


class CompletionRequest(ConstraintFields, kw_only=True):
    """The body of the request.

    prompt: a text, token ids, or a list of either. suffix: what follows the answer.
    """

    prompt: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=1 << 20)]
    max_tokens: Annotated[int, Meta(ge=0, le=1 << 31)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    best_of: int | None = None
    suffix: str | None = None

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or token ids. Raises ApiError."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(item, int) for item in self.prompt):
            return [self.prompt]  # type: ignore[list-item]
        if any(isinstance(item, int) for item in self.prompt) or len(self.prompt) > MAX_PROMPTS:
            raise ApiError(
                400,
                f"Expected a prompt as a text, as token ids, or as a list of up to {MAX_PROMPTS} of either, "
                "got another list; pass one of these.",
                param="prompt",
            )
        return self.prompt  # type: ignore[return-value]

    def settings(self) -> dict[str, Any]:
        """The fields as settings of `weft.SamplingParams`. Raises ApiError."""
        if self.best_of not in (None, self.num_choices):
            raise ApiError(400, "Expected best_of equal to n, got another; leave it out.", param="best_of")
        if self.suffix is not None and self.echo:
            raise ApiError(400, "Expected suffix or echo, got both; leave one out.", param="suffix")
        if self.max_tokens == 0 and not self.echo:
            raise ApiError(
                400, "Expected max_tokens of at least 1 without echo, got 0; raise it.", param="max_tokens"
            )
        limit = DEFAULT_MAX_TOKENS if self.max_tokens is None else max(self.max_tokens, 1)
        settings = self.sampling() | {"max_tokens": limit}
        if self.logprobs is not None:
            settings["logprobs"] = self.logprobs or True
        return settings


COMPLETION_DECODER = decoder_of(CompletionRequest)


async def completions(request: Request) -> Response:
    """Continues prompts, whole or as server-sent events."""
    service: Service = request.app.state.service
    body: CompletionRequest = await read_struct(request, COMPLETION_DECODER, service.config.max_body_bytes)
    prompts = body.prompts()
    length = sum(map(len, prompts)) + len(body.suffix or "") * len(prompts)
    count = len(prompts) * body.num_choices
    work = await service.prepare(
        count,
        length,
        lambda: CompletionWork(service.served, body),
        takes_long=body.is_constrained,
    )
    run = service.run(work.sequences, streams=bool(body.stream))
    events = work.events(run) if body.stream else None
    return await reply(request, run, events, work.whole)


def _whole(generator: Generator, prompt: str | list[int], suffix: str | None) -> str | list[int]:
    return prompt if suffix is None else fill_in_prompt(generator.tokenizer, prompt, suffix)


class CompletionWork:
    """The engine's requests for some prompts, and their answers in the API's words.

    The requests are scores of prompts, then answers, prompt by prompt. Raises ApiError for what the model
    cannot take.
    """

    def __init__(self, served: Served, body: CompletionRequest) -> None:
        generator = served.model.generator
        self._body = body
        self._adapter = served.adapter(body.model)
        self._prompt_tokens = 0
        self._writer = CompletionWriter(body.model or served.name, generator.tokenizer)
        self._scores: list[Sequence] = []
        self._answers: list[Sequence] = []
        self._echoes: list[PromptEcho] = []
        try:
            params = generator.sampling(body.settings())
            for prompt in body.prompts():
                tokens = generator.tokens_of(_whole(generator, prompt, body.suffix))
                self._prompt_tokens += len(tokens)
                self._add_echo(generator, prompt, tokens)
                if body.max_tokens != 0:
                    self._answers += generator.choices(tokens, params, body.num_choices, self._adapter)
        except WeftError as error:
            raise of_weft(error, (*body.__struct_fields__,)) from error

    @property
    def sequences(self) -> list[Sequence]:
        """All requests to the engine."""
        return self._scores + self._answers

    def whole(self, completions: list[Completion]) -> dict[str, Any]:
        """All answers, those to `sequences`, as one object."""
        choices = []
        for index in range(self._num_choices):
            answer = completions[len(self._scores) + index] if self._answers else None
            choices.append(self._writer.choice(index, answer, self._echo_of(index)))
        return self._writer.content(choices, usage=self._usage)

    async def events(self, run: Run) -> AsyncIterator[bytes]:
        """The answers as server-sent events."""
        writer = self._writer
        unsaid = {place for place in range(self._num_choices) if self._echo_of(place) is not None}
        async for place, piece in run.pieces():
            index = place - len(self._scores)
            for first in sorted(unsaid):
                if self._echo_is_known(run, first) and (first == index or not self._answers):
                    unsaid.discard(first)
                    reason = None if self._answers else "length"
                    yield event(
                        writer.content([writer.echo(first, self._echo_of(first), reason)], **self._so_far)
                    )
            if index >= 0 and (piece.text or piece.finish_reason or piece.logprobs):
                yield event(writer.content([writer.choice(index, piece)], **self._so_far))
        if self._body.wants_usage:
            yield event(writer.content([], usage=self._usage))
        yield DONE

    @property
    def _so_far(self) -> dict[str, Any]:
        """What events before the last say of the number of tokens."""
        if not self._body.wants_usage:
            return {}
        return {"usage": self._usage if self._body.wants_usage_so_far else None}

    @property
    def _usage(self) -> dict[str, Any]:
        return usage_of(self._prompt_tokens, self._answers)

    @property
    def _num_choices(self) -> int:
        return len(self._answers) or len(self._echoes) * self._body.num_choices

    def _echo_is_known(self, run: Run, index: int) -> bool:
        return not self._scores or run.answers[index // self._body.num_choices].ended

    def _echo_of(self, index: int) -> PromptEcho | None:
        return self._echoes[index // self._body.num_choices] if self._echoes else None

    def _add_echo(self, generator: Generator, prompt: str | list[int], tokens: Array) -> None:
        if not self._body.echo:
            return
        scored = None
        if self._body.logprobs is not None or self._body.max_tokens == 0:
            scored = generator.scoring_request(tokens, self._body.logprobs or 0, self._adapter)
            self._scores.append(scored)
        text = prompt if isinstance(prompt, str) else generator.tokenizer.decode(tokens.tolist())
        self._echoes.append(PromptEcho(text, tokens.tolist(), scored, self._body.logprobs is not None))
