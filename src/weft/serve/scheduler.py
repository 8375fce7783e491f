"""Which rows the next step computes: continuous batching by priority, then first come first served.

Each step takes a row of every decoding request, then chunks of prompts up to the limit of rows. The running
requests are always the first in order: a request is admitted only after all that come before it; when blocks
run out, or a request of a better priority finds no room, the last one goes back to its place in the queue, to
be computed again from its tokens. The policy is that of vLLM (Kwon et al., 2023) with prompts in chunks
(Agrawal et al., 2023, Sarathi).

Blocks with which an earlier text began are taken from the cache. A request whose next block is about to be
filled by another's prompt is admitted after that.
"""

from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as List
from dataclasses import dataclass, field

import numpy as np

from weft.serve.batch import Seats, seat_array
from weft.serve.kv_blocks import BlockAllocator, blocks_for, extend_keys
from weft.serve.sequence import Purpose, Sequence, Status
from weft.serve.waiting_queue import WaitingQueue, by_order
from weft.types import BLOCK_TOKENS, Array


@dataclass
class Step:
    """What one step computes.

    The outputs are those of `decoding`, each with its draft, then of the chunks that end a prompt.
    """

    purpose: Purpose
    decoding: list[Sequence]
    seats: Array  # i64[decoding]
    chunks: list[tuple[Sequence, int]] = field(default_factory=list)  # and the number of rows of each
    drafts: dict[Sequence, list[int]] = field(default_factory=dict)  # guesses of some of `decoding`
    num_chained: int = 1  # so many steps of `decoding` in one call


class Scheduler:
    """Owns the queue, the running requests, their seats and blocks. For one thread at a time.

    max_rows: most rows of a step; max_score_rows: of one that scores. copy_block: copies one block of the
    cache to another.
    """

    def __init__(
        self,
        num_blocks: int,
        max_running: int,
        max_rows: int,
        max_score_rows: int,
        max_context: int,
        copy_block: Callable[[int, int], None],
        block_tokens: int = BLOCK_TOKENS,
    ) -> None:
        assert max_running <= max_rows, "each running request has a row in each step"
        self.blocks = BlockAllocator(num_blocks)
        self.seats = Seats(max_running, blocks_for(max_context, block_tokens), block_tokens)
        self._block_tokens = block_tokens
        self.waiting = WaitingQueue()
        self.decoding: list[Sequence] = []
        self.prefilling: dict[Purpose, list[Sequence]] = {purpose: [] for purpose in Purpose}
        self.num_preemptions = 0
        self.num_reused_tokens = 0  # of prompts, found in the cache
        self._copy_block = copy_block
        self._coming: set[bytes] = set()  # keys of blocks that prompts are about to fill
        self._max_rows = {Purpose.GENERATE: max_rows, Purpose.SCORE: max_score_rows}
        self._last_purpose = Purpose.SCORE
        self._decoding_seats: Array | None = None  # of `decoding`, while it stays as it is

    @property
    def num_running(self) -> int:
        """Requests that hold a seat."""
        return len(self.decoding) + sum(len(sequences) for sequences in self.prefilling.values())

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and self.num_running == 0

    def all_sequences(self) -> list[Sequence]:
        """Every request that runs or waits."""
        return [*self.decoding, *itertools.chain(*self.prefilling.values()), *self.waiting]

    def add(self, sequence: Sequence) -> None:
        """Puts a new request in its place in the queue; its `number` is above all before it."""
        self.waiting.add(sequence)

    def schedule(self) -> Step | None:
        """The next step, with its blocks allocated; None when there is nothing to do."""
        self._make_room_for_better()
        purpose = self._next_purpose()
        if purpose is None:
            return None
        self._last_purpose = purpose
        step = Step(purpose, [], _NO_SEATS)
        if purpose is Purpose.GENERATE:
            self._grow_decoding()
            step.decoding, step.seats = self.decoding, self._seats_of_decoding()
        self._take_chunks(step, self._max_rows[purpose] - len(step.decoding))
        return step

    def add_drafts(self, step: Step, drafts: Mapping[Sequence, List[int]]) -> None:
        """Adds guesses to `step`, as far as there are blocks besides one for each decoding request."""
        for sequence, draft in drafts.items():
            room = self._room_ahead(sequence, len(draft))
            if room > 0:
                step.drafts[sequence] = list(draft[:room])

    def add_steps(self, step: Step, count: int) -> None:
        """Makes `step` one of up to `count` steps, as far as there are blocks as for drafts."""
        rooms = [self._room_ahead(sequence, count - 1) for sequence in step.decoding]
        step.num_chained = 1 + min(count - 1, *rooms)

    def _room_ahead(self, sequence: Sequence, wanted: int) -> int:
        """Rows that fit in the blocks of `sequence` after its next one, once it got blocks for `wanted`."""
        first = int(self.seats.position[sequence.seat]) + 1
        missing = blocks_for(first + wanted, self._block_tokens) - len(sequence.blocks)
        for _ in range(min(missing, self.blocks.num_free - len(self.decoding))):
            self.seats.add_block(sequence, self.blocks.allocate(1)[0])
        return len(sequence.blocks) * self._block_tokens - first

    def advance(self, step: Step, gained: Array | int = 1) -> list[Sequence]:
        """Marks the rows of `step` as computed; gives the requests whose prompts it ended.

        gained i32[decoding]: tokens that each decoding request got; what a draft's other rows wrote is
        overwritten, as the next rows begin there. Those that generate are decoding from now on; the caller
        sets the token of their seats.
        """
        self.seats.position[step.seats] += gained
        for sequence, rows in step.chunks:
            sequence.num_computed += rows
            self._set_keys(sequence, sequence.num_computed)
        ended = [sequence for sequence, _ in step.chunks if sequence.num_computed == len(sequence.known)]
        for sequence in ended:
            self._note_begun(sequence, sequence.num_keyed, sequence.num_computed)
        if ended and step.purpose is Purpose.GENERATE:
            self._begin_decoding(ended)
        return ended

    def finish(self, sequences: Iterable[Sequence]) -> None:
        """Ends requests wherever they are and frees what they hold."""
        ending = [sequence for sequence in sequences if not sequence.finished]
        self._unseat([sequence for sequence in ending if sequence.status is Status.RUNNING])
        for sequence in ending:
            if sequence.status is Status.WAITING:
                self.waiting.remove(sequence)
            sequence.status = Status.FINISHED

    def _next_purpose(self) -> Purpose | None:
        """In turn where both have work, so that neither waits for the other to run dry."""
        ready = [purpose for purpose in Purpose if self._has_work(purpose)]
        if len(ready) > 1:
            ready.remove(self._last_purpose)
        return ready[0] if ready else None

    def _has_work(self, purpose: Purpose) -> bool:
        if self.prefilling[purpose] or (purpose is Purpose.GENERATE and self.decoding):
            return True
        first = self.waiting.first
        return first is not None and first.purpose is purpose and self._fits(first)

    def _grow_decoding(self) -> None:
        """A block for each decoding request whose next row begins one; the first in order come first."""
        seats = self._seats_of_decoding()
        needed = self.seats.position[seats] >= self.seats.num_blocks[seats] * self._block_tokens
        if not needed.any():
            return
        growing = [self.decoding[index] for index in np.flatnonzero(needed).tolist()]
        for sequence in sorted(growing, key=by_order):
            while not self.blocks.num_free and sequence.status is Status.RUNNING:
                self._preempt(self._last_running())
            if sequence.status is Status.RUNNING:
                self.seats.add_block(sequence, self.blocks.allocate(1)[0])

    def _take_chunks(self, step: Step, rows_left: int) -> None:
        for sequence in self.prefilling[step.purpose]:
            rows_left = _take_chunk(step, sequence, rows_left)
        while rows_left > 0 and (first := self.waiting.first) is not None:
            if first.purpose is not step.purpose or not self._fits(first):
                return
            rows_left = _take_chunk(step, self._admit(), rows_left)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether `sequence` can be admitted: there is room, and nobody is computing what it begins with."""
        return self._has_room(sequence) and not self._is_coming(sequence)

    def _has_room(self, sequence: Sequence) -> bool:
        """Whether there is a seat, and blocks for all its tokens besides one for each that is decoding.

        Without the reserve, a new request would often be preempted in its first steps.
        """
        if not self.seats.num_free:
            return False
        needed = blocks_for(min(len(sequence.known) + 1, sequence.max_length), self._block_tokens)
        needed -= sum(map(self.blocks.is_held, self._cached_blocks(sequence)))
        return self.blocks.num_free >= needed + len(self.decoding)

    def _is_coming(self, sequence: Sequence) -> bool:
        if not self._coming or sequence.purpose is not Purpose.GENERATE:
            return False
        cached = self._cached_blocks(sequence)
        following = sequence.block_keys[len(cached) : self._most_cached(sequence)]
        return bool(following) and following[0] in self._coming

    def _cached_blocks(self, sequence: Sequence) -> list[int]:
        """The blocks of the cache that `sequence` begins with; a score needs all its rows computed."""
        if sequence.purpose is not Purpose.GENERATE:
            return []
        extend_keys(sequence.block_keys, sequence.known, self._block_tokens, sequence.adapter)
        return self.blocks.find(sequence.block_keys[: self._most_cached(sequence)])

    def _most_cached(self, sequence: Sequence) -> int:
        """Blocks that may come from the cache: all before the last token, whose row gives the next one."""
        return (len(sequence.known) - 1) // self._block_tokens

    def _admit(self) -> Sequence:
        sequence = self.waiting.take()
        cached = self._cached_blocks(sequence)
        self.blocks.share(cached)
        needed = blocks_for(len(sequence.known), self._block_tokens)
        sequence.blocks = cached + self.blocks.allocate(needed - len(cached))
        sequence.num_keyed = len(cached)
        sequence.num_computed = sequence.num_reused = len(cached) * self._block_tokens + self._copy_begun(
            sequence
        )
        self.num_reused_tokens += sequence.num_reused
        if sequence.purpose is Purpose.GENERATE:
            self._coming.update(sequence.block_keys[len(cached) :])
        self.seats.take(sequence)
        sequence.status = Status.RUNNING
        insort(self.prefilling[sequence.purpose], sequence, key=by_order)
        return sequence

    def _copy_begun(self, sequence: Sequence) -> int:
        """Copies the block that goes on as `sequence` does after its cached ones; gives the tokens it has."""
        index = sequence.num_keyed
        if not index:
            return 0
        following = sequence.known[index * self._block_tokens : len(sequence.known) - 1][: self._block_tokens]
        source, count = self.blocks.begun.find(sequence.block_keys[index - 1], following)
        # The source may have been handed out for this very text: nothing is written before the step.
        if count:
            self._copy_block(source, sequence.blocks[index])
        return count

    def _begin_decoding(self, sequences: list[Sequence]) -> None:
        ended = set(sequences)
        self.prefilling[Purpose.GENERATE] = [s for s in self.prefilling[Purpose.GENERATE] if s not in ended]
        for sequence in sequences:
            self.seats.position[sequence.seat] = len(sequence.known)
        self.decoding = self.decoding + sequences
        self._decoding_seats = None

    def _make_room_for_better(self) -> None:
        """Puts running requests of a worse priority than the first that waits aside until that one fits."""
        first = self.waiting.first
        while first is not None and self.num_running and not self._has_room(first):
            last = self._last_running()
            if last.params.priority <= first.params.priority:
                return
            self._preempt(last)

    def _last_running(self) -> Sequence:
        return max(itertools.chain(self.decoding, *self.prefilling.values()), key=by_order)

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the queue, to be computed again; what the cache still has of it then is reused."""
        self._unseat([sequence])
        sequence.forget_computed()
        self.waiting.add(sequence)
        self.num_preemptions += 1

    def _unseat(self, sequences: list[Sequence]) -> None:
        if not sequences:
            return
        leaving = set(sequences)
        decoding = leaving.intersection(self.decoding)
        # New lists: the step under way keeps those that it was made with.
        self.decoding = [sequence for sequence in self.decoding if sequence not in leaving]
        for purpose, prefilling in self.prefilling.items():
            self.prefilling[purpose] = [sequence for sequence in prefilling if sequence not in leaving]
        self._decoding_seats = None
        for sequence in sequences:
            position = int(self.seats.position[sequence.seat])
            computed = position if sequence in decoding else sequence.num_computed
            computed = min(computed, sequence.num_tokens)
            self._set_keys(sequence, computed)
            self._note_begun(sequence, sequence.num_keyed, computed)
            self._coming.difference_update(sequence.block_keys[sequence.num_keyed :])
            self.seats.leave(sequence)
            self.blocks.release(reversed(sequence.blocks))  # the end of a text is forgotten before its begin
            sequence.blocks = []

    def _set_keys(self, sequence: Sequence, num_computed: int) -> None:
        """Lets others find the full blocks of the first `num_computed` tokens of `sequence`."""
        full = num_computed // self._block_tokens
        if full > len(sequence.block_keys):
            extend_keys(
                sequence.block_keys, sequence.tokens()[:num_computed], self._block_tokens, sequence.adapter
            )
        for index in range(sequence.num_keyed, full):
            self.blocks.set_key(sequence.blocks[index], sequence.block_keys[index])
            self._coming.discard(sequence.block_keys[index])
            self._note_begun(sequence, index, (index + 1) * self._block_tokens)
        sequence.num_keyed = max(sequence.num_keyed, full)

    def _note_begun(self, sequence: Sequence, index: int, num_computed: int) -> None:
        """Lets others take a part of block `index` of `sequence`, up to `num_computed` tokens of its text."""
        begin = index * self._block_tokens
        if index > 0 and begin < num_computed:
            tokens = sequence.tokens()[begin:num_computed]
            self.blocks.begun.note(sequence.blocks[index], sequence.block_keys[index - 1], tokens)

    def _seats_of_decoding(self) -> Array:
        if self._decoding_seats is None:
            self._decoding_seats = seat_array(self.decoding)
        return self._decoding_seats


_NO_SEATS: Array = np.zeros(0, np.int64)


def _take_chunk(step: Step, sequence: Sequence, rows_left: int) -> int:
    rows = min(len(sequence.known) - sequence.num_computed, rows_left)
    if rows > 0:
        step.chunks.append((sequence, rows))
    return rows_left - rows
