"""The engine: requests in, tokens out, one step at a time for all of them.

`Scheduler` decides the rows of a step, `StepExecutor` runs them. Here requests arrive, are waited for, and
are cancelled. Whoever waits for a request drives the steps (`Driver`).
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as List
from heapq import heapify, heappop, heappush

from weft.errors import PromptError, ThreadError
from weft.serve.driver import Driver
from weft.serve.limits import EngineLimits
from weft.serve.masks import MaskTable
from weft.serve.runner import Runner
from weft.serve.scheduler import Scheduler
from weft.serve.sequence import FinishReason, Purpose, Sequence
from weft.serve.step_executor import StepExecutor

_MOST_DEAD = 64  # finished requests among the deadlines, besides as many as are alive


class Engine:
    """Runs requests through `runner`. May be used from several threads at once.

    clock: gives the time in seconds, for time-outs. masks: of `limits.max_seats` seats; without it no
    request may have a constraint.
    """

    def __init__(
        self,
        runner: Runner,
        limits: EngineLimits,
        clock: Callable[[], float] = time.monotonic,
        masks: MaskTable | None = None,
    ) -> None:
        self.limits = limits
        self.scheduler = Scheduler(
            limits.num_blocks,
            limits.max_seats,
            limits.max_rows,
            limits.max_score_rows,
            limits.max_length,
            runner.copy_block,
            limits.block_tokens,
        )
        self._runner = runner
        self._masks = masks
        self._executor = StepExecutor(runner, limits, self.scheduler, masks)
        self.statistics = self._executor.statistics
        self.drafter = self._executor.drafter
        self._driver = Driver(self._step)
        self._clock = clock
        self._deadlines: list[tuple[float, int, Sequence]] = []  # a heap
        self._inbox: deque[Sequence] = deque()  # new requests, and those to be cancelled
        self._arrival_lock = threading.Lock()
        self._numbers = itertools.count()
        self._base_seed = secrets.randbits(64)
        self._process = os.getpid()
        self._closed = False

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Takes requests in their order. Raises PromptError for one too long, ThreadError when closed."""
        arriving = list(sequences)
        for sequence in arriving:
            self._check(sequence)
        with self._arrival_lock:
            if self._closed or self._process != os.getpid():
                raise ThreadError(
                    "Expected an open model of this process, got one that was closed or belongs to the "
                    "parent process; load the model again."
                )
            for sequence in arriving:
                sequence.number = next(self._numbers)
                sequence.order = (sequence.params.priority, sequence.number)
                if sequence.params.timeout is not None:
                    sequence.deadline = self._clock() + sequence.params.timeout
                self._inbox.append(sequence)

    def wait(self, sequences: List[Sequence]) -> None:
        """Returns when all of `sequences` are finished. Raises the error of one that failed."""
        left = list(sequences)

        def done() -> bool:
            while left and left[-1].finished:
                left.pop()
            return not left

        self._driver.run_until(done)
        for sequence in sequences:
            if sequence.error is not None:
                raise sequence.error

    def wait_for_output(self, sequence: Sequence, num_seen: int) -> None:
        """Returns when `sequence` has more than `num_seen` tokens of answer, or is finished."""
        self._driver.run_until(lambda: len(sequence.output) > num_seen or sequence.finished)
        if sequence.error is not None:
            raise sequence.error

    def run_until(self, done: Callable[[], bool]) -> None:
        """Runs steps until `done` is true or nothing is left to do."""
        self._driver.run_until(done)

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Ends `sequences` before the next step; what they hold is free then. Those finished stay so."""
        unfinished = [sequence for sequence in sequences if not sequence.finished]
        for sequence in unfinished:
            sequence.cancel_wanted = True
        if unfinished:
            self._inbox.extend(unfinished)
            self._driver.run_between_steps(self._take_inbox, lambda: all(s.finished for s in unfinished))

    def cancel_later(self, sequence: Sequence) -> None:
        """Ends `sequence` before whatever step comes next. Takes no lock, so that a finalizer may call it."""
        if not sequence.finished:
            sequence.cancel_wanted = True
            self._inbox.append(sequence)

    def forget_prefixes(self) -> None:
        """Forgets the begins of finished texts, so that the next requests compute all of theirs."""
        self.between_steps(self.scheduler.blocks.forget)

    def between_steps(self, action: Callable[[], None]) -> None:
        """Runs `action` while no step runs."""
        self._driver.run_between_steps(action, lambda: False)

    def close(self) -> None:
        """Ends all requests with an error after the step under way; gives back threads and memory."""
        with self._arrival_lock:
            if self._closed:
                return
            self._closed = True
        self._driver.run_between_steps(self._take_inbox, lambda: self.scheduler.idle and not self._inbox)
        if self._masks is not None:
            self._masks.close()
        self._runner.close()

    def new_seed(self) -> int:
        """A seed for a request that brings none; distinct for each."""
        with self._arrival_lock:
            self._base_seed = (self._base_seed + 0x9E3779B97F4A7C15) % (1 << 64)
            return self._base_seed >> 32

    def _check(self, sequence: Sequence) -> None:
        length, longest = len(sequence.prompt), self.limits.max_length
        if length == 0:
            raise PromptError("Expected a prompt of at least one token, got none; write something.")
        if length + (sequence.purpose is Purpose.GENERATE) > longest:
            raise PromptError(
                f"Expected a prompt that leaves room in the context of {longest} tokens, got one of "
                f"{length}; shorten it or raise max_context."
            )

    def _take_inbox(self) -> None:
        while self._inbox:
            sequence = self._inbox.popleft()
            if sequence.cancel_wanted:
                self._executor.end([sequence], FinishReason.CANCELLED)
                continue
            self.scheduler.add(sequence)
            if sequence.deadline is not None:
                heappush(self._deadlines, (sequence.deadline, sequence.number, sequence))
        if self._closed:
            self._fail(self.scheduler.all_sequences(), _closed_error())

    def _step(self) -> bool:
        """One step for everyone; False when there is nothing to do. Only one thread at a time."""
        if self._inbox or self._closed:
            self._take_inbox()
        if self._deadlines:
            self._end_overdue()
        step = self.scheduler.schedule()
        if step is None:
            return False
        try:
            self._executor.execute(step)
        except BaseException as error:
            self._fail([*step.decoding, *(sequence for sequence, _ in step.chunks)], error)
            if not isinstance(error, Exception):
                raise
        return True

    def _end_overdue(self) -> None:
        now = self._clock()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].finished):
            _, _, sequence = heappop(self._deadlines)
            self._executor.end([sequence], FinishReason.TIMEOUT)
        num_alive = self.scheduler.num_running + len(self.scheduler.waiting)
        if len(self._deadlines) > 2 * num_alive + _MOST_DEAD:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].finished]
            heapify(self._deadlines)

    def _fail(self, sequences: Iterable[Sequence], error: BaseException) -> None:
        ending = [sequence for sequence in sequences if not sequence.finished]
        for sequence in ending:
            sequence.error = error
        self._executor.end(ending, FinishReason.ERROR)


def _closed_error() -> ThreadError:
    return ThreadError("Expected the model to stay open while a request runs, got it closed; load it again.")
