"""Hours in the life of an engine: a simulated clock, a fake model, and users without patience."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
from support.fake_model import END, FakeRunner, next_repeating_token

from tests.serve.test_call_length import ShortSteps
from tests.serve.test_engine import CONTEXT, check_answer, check_empty, check_running, scoring
from weft.serve.engine import Engine
from weft.serve.limits import EngineLimits
from weft.serve.sampling import SamplingParams
from weft.serve.sequence import FinishReason, Purpose, Sequence, Status

DRAFT_MAX = 4
STEP_S, ROW_S = 0.1, 0.01  # what a step and each of its rows take
# Requests a second; the engine can do about two. Each holds for a quarter to three quarters of an hour.
RATES = (0.2, 1.0, 1.6, 2.5, 6.0, 0.0)
PRIORITIES = (-1, 0, 0, 0, 0, 0, 0, 1)
MOST_AT_THE_HEAD_S = 90.0


class Simulation:
    """Runs an engine of few seats and blocks on simulated time; AssertionError where it fails its users.

    After each step every block has its holders, nobody of a priority is overtaken, and who is first in the
    queue gets a seat soon. Each request gets the answer that it would have had alone, or the begin of it
    where it was cancelled or its time was over.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        limits = EngineLimits(CONTEXT, 24, 48, 16, 8, DRAFT_MAX)
        self._runner = FakeRunner(24, next_repeating_token)
        self.engine = Engine(self._runner, limits, lambda: self.now)
        self.engine.drafter.costs = ShortSteps()
        self.ends: Counter[str] = Counter()
        self.longest_at_head = 0.0
        self.longest_s: dict[int, float] = {}  # from arrival to end, by priority
        self._alive: dict[Sequence, float] = {}  # when they came
        self._leaving: list[tuple[float, Sequence]] = []
        self._chats: list[list[int]] = [[n + 1] * 9 for n in range(6)]
        self._head: tuple[Sequence | None, float] = (None, 0.0)

    def run(self, hours: float) -> None:
        """Lives for `hours`, then until all are answered."""
        rate, next_rate, next_arrival = RATES[0], 0.0, 0.0
        while self.now < hours * 3600:
            if self.now >= next_rate:
                rate = self.random.choice(RATES)
                next_rate = self.now + self.random.uniform(0.25, 0.75) * 3600
                next_arrival = self._next_arrival(rate)
            while next_arrival <= self.now:
                # Beyond a queue's length a server refuses.
                if len(self._alive) < 60:
                    self._arrive()
                next_arrival += self.random.expovariate(rate)
            if not self._step():
                self.now = min(next_arrival, next_rate)
        while self._step():
            pass
        assert not self._alive
        self._check_nothing_is_kept()

    def _next_arrival(self, rate: float) -> float:
        return self.now + self.random.expovariate(rate) if rate else float("inf")

    def _arrive(self) -> None:
        draw = self.random
        if draw.random() < 0.08:
            self._submit([scoring([draw.randrange(9) + 1] * draw.randint(1, 90))])
            return
        chat = draw.choice(self._chats)
        prompt = [
            *chat[: draw.randint(1, len(chat))],
            *(draw.randrange(5) for _ in range(draw.randint(1, 20))),
        ]
        count = draw.choice([1] * 15 + [2, 4])
        params = SamplingParams(
            logprobs=True,
            priority=draw.choice(PRIORITIES),
            timeout=draw.uniform(0.5, 40) if draw.random() < 0.15 else None,
        )
        length = min(len(prompt) + draw.choice([1, 5, 20, 60]), CONTEXT)
        ends = frozenset([END]) if draw.random() < 0.7 else frozenset()
        seed = draw.randrange(1 << 20)
        sequences = [
            Sequence(np.array(prompt), params, max_length=length, seed=seed, stream=n, end_ids=ends)
            for n in range(count)
        ]
        self._submit(sequences)
        if draw.random() < 0.1:
            self._leaving += [(self.now + draw.expovariate(0.2), sequence) for sequence in sequences]

    def _submit(self, sequences: list[Sequence]) -> None:
        self.engine.submit(sequences)
        self._alive.update((sequence, self.now) for sequence in sequences)

    def _step(self) -> bool:
        """One step, with the time it takes; False when there is nothing to do."""
        leaving = [sequence for when, sequence in self._leaving if when <= self.now]
        if leaving:
            self._leaving = [entry for entry in self._leaving if entry[0] > self.now]
            for sequence in leaving:
                self.engine.cancel_later(sequence)
        self._runner.chains = self.random.random() < 0.5
        rows = self.engine.statistics.num_rows
        did_something = self.engine._step()
        assert all(sequence.finished for sequence in leaving), "within the step"
        self.now += STEP_S + ROW_S * (self.engine.statistics.num_rows - rows)
        check_running(self.engine)
        self._look_at_head()
        for sequence in [sequence for sequence in self._alive if sequence.finished]:
            self._take_end(sequence)
        return did_something

    def _look_at_head(self) -> None:
        """Who is first waits for others to end, not for ever."""
        first = self.engine.scheduler.waiting.first
        if first is not self._head[0]:
            self._head = (first, self.now)
        elif first is not None:
            self.longest_at_head = max(self.longest_at_head, self.now - self._head[1])
            assert self.now - self._head[1] < MOST_AT_THE_HEAD_S, "the first in the queue starves"

    def _take_end(self, sequence: Sequence) -> None:
        took = self.now - self._alive.pop(sequence)
        self.ends[str(sequence.finish_reason)] += 1
        assert sequence.status is Status.FINISHED and sequence.error is None
        priority = sequence.params.priority
        self.longest_s[priority] = max(self.longest_s.get(priority, 0.0), took)
        if sequence.finish_reason is FinishReason.TIMEOUT:
            assert sequence.params.timeout is not None
            assert took < sequence.params.timeout + 2 * (STEP_S + 48 * ROW_S), (
                "ended by the step after its time"
            )
        if sequence.purpose is Purpose.SCORE:
            return
        check_answer(sequence, DRAFT_MAX)
        if len(sequence.prompt) + len(sequence.output) < 110:
            text = [*sequence.prompt.tolist(), *sequence.output]
            self._chats[self.random.randrange(len(self._chats))] = text

    def _check_nothing_is_kept(self) -> None:
        check_empty(self.engine)
        scheduler, blocks = self.engine.scheduler, self.engine.scheduler.blocks
        assert not scheduler._coming and not len(scheduler.waiting) and len(self.engine._deadlines) < 200
        assert sorted([*blocks._free, *blocks._idle]) == list(range(blocks.num_blocks))
        found = {*blocks._blocks.values(), *blocks.begun._keys_before}
        assert found == set(blocks._idle), "who is kept is found, and nobody else"
