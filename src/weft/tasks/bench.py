"""Measures a model on this machine: prompt and generation speed by threads, beside what the machine could do.

Rounds of all works and thread counts take turns, so that a disturbance meets all of them; medians are told.
Every run's tokens are compared: a speed counts only for the right answer.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from collections.abc import Sequence as List
from dataclasses import dataclass, field
from statistics import median

from weft.errors import ConfigError, WeftError
from weft.machine import MachineLimits
from weft.plan.roofline import least_seconds
from weft.runtime import Pool, measure_limits
from weft.serve.sequence import Sequence
from weft.tasks.model import Model

Report = Callable[[str], None]
"""Called with what is measured now."""


@dataclass(frozen=True)
class Work:
    """`batch` requests of `prompt_tokens` each at once.

    The speed of the prompt is measured where `answer_tokens` is 1, else that of the answers after their
    first token.
    """

    name: str
    batch: int
    prompt_tokens: int
    answer_tokens: int

    @property
    def is_prompt(self) -> bool:
        """Whether the speed of reading the prompt is what counts."""
        return self.answer_tokens == 1

    @property
    def sizes(self) -> dict[str, float]:
        """Sizes of the step that is measured, its mean context included."""
        if self.is_prompt:
            rows, context = self.batch * self.prompt_tokens, (self.prompt_tokens + 1) / 2
        else:
            rows, context = self.batch, self.prompt_tokens + self.answer_tokens / 2
        return {"rows": rows, "outputs": self.batch, "sequences": self.batch, "context": context}


FULL = (
    Work("prompt of 512", 1, 512, 1),
    Work("batch 1", 1, 16, 64),
    Work("batch 8", 8, 16, 64),
    Work("batch 64", 64, 16, 32),
)
QUICK = (
    Work("prompt of 256", 1, 256, 1),
    Work("batch 1", 1, 16, 24),
    Work("batch 8", 8, 16, 16),
    Work("batch 64", 64, 16, 8),
)
FULL_ROUNDS = 5
QUICK_ROUNDS = 3


class Rates(ABC):
    """What rounds of tokens a second come to, for those that hold them and know their limit."""

    rounds: list[float]

    @property
    def tokens_per_s(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Between the slowest and the fastest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.tokens_per_s

    @property
    @abstractmethod
    def limit_tokens_per_s(self) -> float:
        """What the machine's limits allow."""

    @property
    def share(self) -> float:
        """The speed as a share of the limit."""
        return self.tokens_per_s / self.limit_tokens_per_s


@dataclass
class Speed(Rates):
    """Tokens a second of a work with so many threads, one number a round; `least_s` is what the machine's
    limits allow for the step that is measured.
    """

    work: Work
    threads: int
    least_s: float
    rounds: list[float] = field(default_factory=list)

    @property
    def limit_tokens_per_s(self) -> float:
        """What the machine's limits allow."""
        tokens = self.work.batch * (self.work.prompt_tokens if self.work.is_prompt else 1)
        return tokens / self.least_s


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, … and `most`."""
    counts = []
    count = 1
    while count < most:
        counts.append(count)
        count *= 2
    return [*counts, most]


def machine_limits(threads: Iterable[int], report: Report | None = None) -> dict[int, MachineLimits]:
    """The machine's limits by number of threads. Raises ThreadError, OutOfMemoryError."""
    limits = {}
    for count in threads:
        if report:
            report(f"limits of the machine, threads: {count}")
        with Pool(count) as pool:
            limits[count] = measure_limits(pool)
    return limits


def measure_speeds(
    model: Model,
    works: List[Work],
    limits: dict[int, MachineLimits],
    rounds: int,
    report: Report | None = None,
) -> list[Speed]:
    """The speed of each work for each number of threads of `limits`, in that order.

    The weights are loaded once; the pool of `model` is resized, and left with the last number. Raises
    ConfigError when the model's context is too short, WeftError when answers differ between runs.
    """
    _check_context(model, works)
    plan = model.runner.executable("generate").plan
    speeds = [
        Speed(work, threads, least_seconds(plan, work.sizes, limits[threads]))
        for work in works
        for threads in limits
    ]
    answers = _Answers()
    for number in range(rounds + 1):  # round 0 warms up
        for threads in limits:
            model.pool.resize(threads)
            for speed in (speed for speed in speeds if speed.threads == threads):
                if report:
                    step = f"round {number} of {rounds}" if number else "warming up"
                    report(f"{step}: {speed.work.name}, threads: {threads}")
                tokens_per_s, tokens = _run(model, speed.work)
                answers.check(speed, tokens)
                if number:
                    speed.rounds.append(tokens_per_s)
    return speeds


class _Answers:
    """The tokens of every request; the same ones must come in every run, alone or in a batch."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], list[int]] = {}  # by prompt length and number

    def check(self, speed: Speed, answers: list[list[int]]) -> None:
        """Raises WeftError when a request was answered in another way before."""
        for number, tokens in enumerate(answers):
            known = self._known.setdefault((speed.work.prompt_tokens, number), tokens)
            shared = min(len(known), len(tokens))
            if known[:shared] != tokens[:shared]:
                raise WeftError(
                    f"Expected the same tokens in every run, got others in {speed.work.name} with "
                    f"{speed.threads} threads; this is a fault of weft: please report it."
                )
            if len(tokens) > len(known):
                self._known[speed.work.prompt_tokens, number] = tokens


def _run(model: Model, work: Work) -> tuple[float, list[list[int]]]:
    """Tokens a second of one run, and the answers' tokens."""
    engine = model.engine
    sequences = _requests(model, work)
    engine.forget_prefixes()
    begin = time.perf_counter()
    engine.submit(sequences)
    engine.run_until(lambda: all(sequence.output for sequence in sequences))
    first = time.perf_counter()
    if work.is_prompt:
        tokens_per_s = work.batch * work.prompt_tokens / (first - begin)
    else:
        before = sum(len(sequence.output) for sequence in sequences)
        engine.wait(sequences)
        after = sum(len(sequence.output) for sequence in sequences)
        tokens_per_s = (after - before) / (time.perf_counter() - first)
    engine.wait(sequences)
    return tokens_per_s, [sequence.output for sequence in sequences]


def _requests(model: Model, work: Work) -> list[Sequence]:
    generator = model.generator
    params = generator.sampling({"temperature": 0.0, "max_tokens": work.answer_tokens, "ignore_eos": True})
    return [
        generator.request(_prompt(number, work.prompt_tokens, generator.vocabulary_size), params)
        for number in range(work.batch)
    ]


def _prompt(number: int, length: int, vocabulary_size: int) -> list[int]:
    """Tokens without a pattern that a cache could use, the same in each run."""
    state, tokens = number + 1, []
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        tokens.append((state >> 33) % vocabulary_size)
    return tokens


def _check_context(model: Model, works: List[Work]) -> None:
    longest = max(work.prompt_tokens + work.answer_tokens for work in works)
    if model.max_context < longest:
        raise ConfigError(
            f"Expected a model with a context of at least {longest} tokens, got one of {model.max_context}; "
            "bench another one, or pass --quick, which needs less."
        )
