"""One scheduled step of all requests: its rows are filled in and run, what comes back is given to them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Sequence as List

import numpy as np

from weft.serve.batch import Batch
from weft.serve.call_length import CallLength, common_ends
from weft.serve.draft_masks import allowed_drafts, write_draft_masks
from weft.serve.drafter import Drafter, num_equal
from weft.serve.limits import EngineLimits, EngineStatistics
from weft.serve.logprobs import add_logprobs, alternatives
from weft.serve.masks import MaskTable
from weft.serve.runner import Inputs, Runner, Sampled
from weft.serve.sampler import Sampler
from weft.serve.scheduler import Scheduler, Step
from weft.serve.sequence import FinishReason, Purpose, Sequence
from weft.types import Array


class StepExecutor:
    """Runs the steps of `scheduler` through `runner`; only one thread at a time may.

    masks: of `limits.max_seats` seats; without it no request may have a constraint.
    """

    def __init__(
        self, runner: Runner, limits: EngineLimits, scheduler: Scheduler, masks: MaskTable | None
    ) -> None:
        self.statistics = EngineStatistics()
        self.drafter = Drafter(limits.draft_max)
        max_outputs = max(limits.max_outputs, limits.max_score_rows)
        self._limits = limits
        self._runner = runner
        self._scheduler = scheduler
        self._batch = Batch(max(limits.max_rows, limits.max_score_rows), max_outputs, scheduler.seats)
        self._masks = masks
        self._sampler = Sampler(limits.max_seats, max_outputs, masks)
        self._call_length = CallLength()
        self._run_ended_at = 0.0

    def execute(self, step: Step) -> None:
        """Runs `step`; requests that end by it hold nothing afterwards."""
        if step.purpose is Purpose.GENERATE:
            self._generate(step)
        else:
            self._score(step)
        self.statistics.num_steps += step.num_chained
        self.statistics.num_rows += self._batch.num_rows

    def end(self, sequences: Iterable[Sequence], reason: FinishReason) -> None:
        """Ends those of `sequences` that are not finished; what they hold is free then."""
        ending = [sequence for sequence in sequences if not sequence.finished]
        for sequence in ending:
            sequence.finish_reason = reason
        self._release(ending)

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
            self._scheduler.advance(step, step.num_chained)
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
        chosen = self.drafter.choose(step.decoding, self._limits.max_outputs - num_rows, chains=chains)
        drafts = chosen if self._masks is None else allowed_drafts(self._masks, chosen)
        if drafts:
            self._call_length.note_guess()
            self._scheduler.add_drafts(step, drafts)
        elif chains:
            count = self._call_length.steps(step.decoding, step_seconds)
            count = min(count, self._limits.max_outputs // num_rows)
            if count > 1:
                self._scheduler.add_steps(step, count)

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
        self._scheduler.advance(step, np.array(gained, np.int32))
        taking = [sampling[row] for row in rows]
        self._give_tokens(rows, taking, self._batch.output_seats[rows], sampled)

    def _give_tokens(self, rows: List[int], sampling: list[Sequence], seats: Array, sampled: Sampled) -> None:
        """Gives the tokens of `rows` of outputs to the requests `sampling` on `seats`."""
        tokens = sampled.tokens if isinstance(rows, range) else sampled.tokens[rows]
        self._scheduler.seats.token[seats] = tokens  # of several on one seat the last stays
        ending: list[Sequence] = []
        constrained: dict[Sequence, list[int]] = {}
        for row, sequence, token in zip(rows, sampling, tokens.tolist(), strict=True):
            if sequence.finish_reason is not None:
                continue  # ended by a token before this one
            self._give_token(sequence, token, sampled, row)
            if sequence.finish_reason is not None:
                ending.append(sequence)
            elif sequence.matcher is not None:
                constrained.setdefault(sequence, []).append(token)
        for sequence in ending:
            constrained.pop(sequence, None)
        self._write_masks([*constrained], [*constrained.values()])
        if ending:
            self._release(ending)

    def _give_token(self, sequence: Sequence, token: int, sampled: Sampled, row: int) -> None:
        """Gives `sequence` the token of a row of outputs, and the reason to end where it is the last."""
        if sequence.matcher is not None and sequence.matcher.error is not None:
            sequence.error, sequence.finish_reason = sequence.matcher.error, FinishReason.ERROR
            return
        self.statistics.num_tokens += 1
        if token in sequence.end_ids:
            sequence.finish_reason, sequence.stop_reason = FinishReason.STOP, token
            return
        if sequence.params.logprobs is not False:
            add_logprobs(sequence, sampled, row)
        detokenizer = sequence.detokenizer
        if detokenizer is not None:
            # Before the output grows: whoever reads the answer counts the one and takes the other.
            sequence.pieces.append(detokenizer.push(token))
        sequence.output.append(token)
        if detokenizer is not None and detokenizer.stopped_by is not None:
            sequence.finish_reason, sequence.stop_reason = FinishReason.STOP, detokenizer.stopped_by
        elif len(sequence.prompt) + len(sequence.output) >= sequence.max_length:
            sequence.finish_reason = FinishReason.LENGTH

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
        ended = self._scheduler.advance(step)
        first = 0
        for (sequence, _), count in zip(step.chunks, counts, strict=True):
            sequence.scores.append(np.array(scored.logprobs[first : first + count], np.float32))
            for row in range(first, first + count if sequence.params.num_alternatives else first):
                sequence.alternatives.append(alternatives(sequence, scored, row))
            first += count
        self.end(ended, FinishReason.LENGTH)

    def _release(self, sequences: list[Sequence]) -> None:
        self.statistics.num_finished += len(sequences)
        self._scheduler.finish(sequences)
