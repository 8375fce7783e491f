"""The engine: requests in, tokens out, one step at a time for all of them.

A step is schedule, run, postprocess. `Scheduler` decides the rows, a `Runner` computes them, and here the
tokens that come back are given to their requests. Whoever waits for a request drives the steps (`Driver`).
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

import numpy as np

from weft.errors import PromptError, ThreadError
from weft.serve.batch import Batch
from weft.serve.call_length import CallLength, common_ends
from weft.serve.draft_masks import allowed_drafts, write_draft_masks
from weft.serve.drafter import Drafter, num_equal
from weft.serve.driver import Driver
from weft.serve.limits import EngineLimits, EngineStatistics
from weft.serve.logprobs import add_logprobs, alternatives
from weft.serve.masks import MaskTable
from weft.serve.runner import Inputs, Runner, Sampled
from weft.serve.sampler import Sampler
from weft.serve.scheduler import Scheduler, Step
from weft.serve.sequence import FinishReason, Purpose, Sequence
from weft.types import Array

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
        max_running = limits.max_seats
        self.limits = limits
        self.statistics = EngineStatistics()
        self.scheduler = Scheduler(
            limits.num_blocks,
            max_running,
            limits.max_rows,
            limits.max_score_rows,
            limits.max_length,
            runner.copy_block,
            limits.block_tokens,
        )
        self._runner = runner
        max_outputs = max(limits.max_outputs, limits.max_score_rows)
        self._batch = Batch(max(limits.max_rows, limits.max_score_rows), max_outputs, self.scheduler.seats)
        self._masks = masks
        self._sampler = Sampler(max_running, max_outputs, masks)
        self.drafter = Drafter(limits.draft_max)
        self._call_length = CallLength()
        self._run_ended_at = 0.0
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
                self._end([sequence], FinishReason.CANCELLED)
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
            if step.purpose is Purpose.GENERATE:
                self._generate(step)
            else:
                self._score(step)
        except BaseException as error:
            self._fail([*step.decoding, *(sequence for sequence, _ in step.chunks)], error)
            if not isinstance(error, Exception):
                raise
        self.statistics.num_steps += step.num_chained
        self.statistics.num_rows += self._batch.num_rows
        return True

    def _end_overdue(self) -> None:
        now = self._clock()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].finished):
            _, _, sequence = heappop(self._deadlines)
            self._end([sequence], FinishReason.TIMEOUT)
        num_alive = self.scheduler.num_running + len(self.scheduler.waiting)
        if len(self._deadlines) > 2 * num_alive + _MOST_DEAD:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].finished]
            heapify(self._deadlines)

    def _generate(self, step: Step) -> None:
        if not step.chunks:
            self._look_ahead(step)
        sampling = self._fill(step)
        batch = self._batch
        inputs = batch.inputs
        positions = batch.output_positions
        inputs.update(self._sampler.inputs(sampling, batch.output_seats, positions, step.drafts))
        begin = time.perf_counter()
        self.drafter.note_pause(begin - self._run_ended_at)
        sampled = self._run(step, inputs)
        self._run_ended_at = time.perf_counter()
        if not step.chunks:
            seconds = self._run_ended_at - begin
            self.drafter.costs.observe(batch.num_rows // step.num_chained, seconds / step.num_chained)
        if step.drafts:
            self._give_verified(step, sampling, sampled)
        else:
            self.scheduler.advance(step, step.num_chained)
            count = len(sampled.tokens)
            self._give_tokens(range(count), sampling[:count], batch.output_seats[:count], sampled)

    def _run(self, step: Step, inputs: Inputs) -> Sampled:
        if step.num_chained == 1:
            return self._runner.generate(inputs)
        sampled = self._runner.generate_chain(inputs, step.num_chained, common_ends(step.decoding))
        self._batch.num_rows = len(sampled.tokens)  # an end may have come before
        step.num_chained = self._batch.num_rows // len(step.decoding)
        return sampled

    def _look_ahead(self, step: Step) -> None:
        """Adds guesses to a step without prompts, or where there are none further steps."""
        num_rows = len(step.decoding)
        step_seconds = self.drafter.costs.estimate(num_rows)
        chains = self._runner.chains and self._call_length.may_be_several(step.decoding, step_seconds)
        chosen = self.drafter.choose(step.decoding, self.limits.max_outputs - num_rows, chains=chains)
        drafts = chosen if self._masks is None else allowed_drafts(self._masks, chosen)
        if drafts:
            self._call_length.note_guess()
            self.scheduler.add_drafts(step, drafts)
        elif chains:
            count = self._call_length.steps(step.decoding, step_seconds)
            count = min(count, self.limits.max_outputs // num_rows)
            if count > 1:
                self.scheduler.add_steps(step, count)

    def _fill(self, step: Step) -> list[Sequence]:
        """Writes the rows of `step` to the batch; gives the request of each output."""
        batch, sampling = self._batch, step.decoding
        batch.clear()
        if step.drafts:
            drafts = [step.drafts.get(sequence, ()) for sequence in sampling]
            batch.add_decoding(step.seats, {place: draft for place, draft in enumerate(drafts) if draft})
            sampling = [sequence for sequence in sampling for _ in (0, *step.drafts.get(sequence, ()))]
            if self._masks is not None:
                write_draft_masks(self._masks, step)
        elif step.num_chained > 1:
            batch.add_chain(step.seats, step.num_chained)
            sampling = sampling * step.num_chained
        else:
            batch.add_decoding(step.seats)
        ending = []
        for sequence, rows in step.chunks:
            batch.add_chunk(sequence, rows)
            if sequence.num_computed + rows == len(sequence.known):
                batch.ask_last_row(sequence.seat)
                self._sampler.seat(sequence)
                ending.append(sequence)
        self._write_masks([sequence for sequence in ending if sequence.matcher is not None])
        return sampling + ending if ending else sampling

    def _write_masks(self, sequences: List[Sequence], tokens: List[List[int]] | None = None) -> None:
        """Begins the masks of constrained `sequences`, after new `tokens` of each or as they stand."""
        if sequences:
            assert self._masks is not None
            matchers = [sequence.matcher for sequence in sequences if sequence.matcher is not None]
            self._masks.write(matchers, [sequence.seat for sequence in sequences], tokens)

    def _give_verified(self, step: Step, sampling: list[Sequence], sampled: Sampled) -> None:
        """Gives the tokens of drafts that came true, and of each request the first that was not foreseen."""
        tokens = sampled.tokens.tolist()
        rows: list[int] = []
        gained = []
        first = 0
        for sequence in step.decoding:
            draft = step.drafts.get(sequence, ())
            count = 1 + num_equal(draft, tokens[first : first + len(draft)])
            if draft and sequence.matcher is not None:
                count = min(count, 1 + sequence.matcher.num_followed)
            rows.extend(range(first, first + count))
            gained.append(count)
            first += 1 + len(draft)
            self.statistics.num_drafted += len(draft)
            self.statistics.num_accepted += count - 1
        self.scheduler.advance(step, np.array(gained, np.int32))
        taking = [sampling[row] for row in rows]
        self._give_tokens(rows, taking, self._batch.output_seats[rows], sampled)

    def _give_tokens(self, rows: List[int], sampling: list[Sequence], seats: Array, sampled: Sampled) -> None:
        """Gives the tokens of `rows` of outputs to the requests `sampling` on `seats`."""
        tokens = sampled.tokens if isinstance(rows, range) else sampled.tokens[rows]
        self.scheduler.seats.token[seats] = tokens  # of several on one seat the last stays
        ending: list[Sequence] = []
        constrained: dict[Sequence, list[int]] = {}
        for row, sequence, token in zip(rows, sampling, tokens.tolist(), strict=True):
            if sequence.finish_reason is not None:
                continue  # ended by a token before this one
            if sequence.matcher is not None and sequence.matcher.error is not None:
                sequence.error, sequence.finish_reason = sequence.matcher.error, FinishReason.ERROR
                ending.append(sequence)
                continue
            self.statistics.num_tokens += 1
            if token in sequence.end_ids:
                sequence.finish_reason, sequence.stop_reason = FinishReason.STOP, token
                ending.append(sequence)
                continue
            if sequence.params.logprobs is not False:
                add_logprobs(sequence, sampled, row)
            if sequence.detokenizer is not None:
                sequence.pieces.append(sequence.detokenizer.push(token))
            sequence.output.append(token)
            if sequence.detokenizer is not None and sequence.detokenizer.stopped_by is not None:
                sequence.finish_reason = FinishReason.STOP
                sequence.stop_reason = sequence.detokenizer.stopped_by
                ending.append(sequence)
            elif len(sequence.prompt) + len(sequence.output) >= sequence.max_length:
                sequence.finish_reason = FinishReason.LENGTH
                ending.append(sequence)
            elif sequence.matcher is not None:
                constrained.setdefault(sequence, []).append(token)
        for sequence in ending:
            constrained.pop(sequence, None)
        self._write_masks([*constrained], [*constrained.values()])
        if ending:
            self._release(ending)

    def _score(self, step: Step) -> None:
        batch = self._batch
        batch.clear()
        counts = []
        for sequence, rows in step.chunks:
            batch.add_chunk(sequence, rows)
            targets = sequence.known[sequence.num_computed + 1 : sequence.num_computed + 1 + rows]
            batch.ask_targets(targets)
            counts.append(len(targets))
        inputs = {**batch.inputs, "targets": batch.targets}
        wanted = max(sequence.params.num_alternatives for sequence, _ in step.chunks)
        if wanted:
            inputs.update(self._sampler.ranking_inputs(len(batch.targets), wanted))
        scored = self._runner.score(inputs)
        ended = self.scheduler.advance(step)
        first = 0
        for (sequence, _), count in zip(step.chunks, counts, strict=True):
            sequence.scores.append(np.array(scored.logprobs[first : first + count], np.float32))
            for row in range(first, first + count if sequence.params.num_alternatives else first):
                sequence.alternatives.append(alternatives(sequence, scored, row))
            first += count
        self._end(ended, FinishReason.LENGTH)

    def _end(self, sequences: Iterable[Sequence], reason: FinishReason) -> None:
        ending = [sequence for sequence in sequences if not sequence.finished]
        for sequence in ending:
            sequence.finish_reason = reason
        self._release(ending)

    def _fail(self, sequences: Iterable[Sequence], error: BaseException) -> None:
        ending = [sequence for sequence in sequences if not sequence.finished]
        for sequence in ending:
            sequence.error = error
        self._end(ending, FinishReason.ERROR)

    def _release(self, sequences: list[Sequence]) -> None:
        self.statistics.num_finished += len(sequences)
        self.scheduler.finish(sequences)


def _closed_error() -> ThreadError:
    return ThreadError("Expected the model to stay open while a request runs, got it closed; load it again.")
