"""One answer on its way from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
import time

from weft.io.text.tokenizer import Tokenizer
from weft.serve.sequence import FinishReason, Purpose, Sequence
from weft.server.statistics import ServerStatistics
from weft.tasks.completion import AnswerReader


class Answer:
    """The answer to `sequence`. The engine's thread calls `look`, the event loop reads.

    changed: set when there is something to read; answers of one request share it. streams: whether each
    token matters, or the first and the last alone.
    """

    __slots__ = ("arrived_at", "changed", "ended", "last_at", "num_seen", "reader", "sequence", "streams")

    def __init__(
        self, sequence: Sequence, tokenizer: Tokenizer, changed: asyncio.Event, streams: bool
    ) -> None:
        self.sequence = sequence
        self.reader = AnswerReader(sequence, tokenizer)
        self.changed = changed
        self.streams = streams
        self.ended = False
        self.num_seen = 0
        self.arrived_at = time.monotonic()
        self.last_at = self.arrived_at

    @property
    def begun(self) -> bool:
        """Whether its first token, or its end, has come."""
        return self.num_seen > 0 or self.ended

    def look(self, now: float, statistics: ServerStatistics) -> bool:
        """After a step, at time `now`: whether there is news for the reader."""
        sequence = self.sequence
        finished = sequence.finished  # read first: nothing comes after it
        grown = len(sequence.output) - self.num_seen
        if not grown and not finished:
            return False
        is_first = self.num_seen == 0 and grown > 0
        if grown:
            if is_first:
                statistics.first_token_s.observe(now - self.arrived_at)
            else:
                statistics.between_tokens_s.observe((now - self.last_at) / grown)
            self.num_seen += grown
            self.last_at = now
        if finished and not self.ended:
            self.ended = True
            self._count_end(now, statistics)
        return self.ended or is_first or self.streams

    def _count_end(self, now: float, statistics: ServerStatistics) -> None:
        statistics.whole_s.observe(now - self.arrived_at)
        statistics.prompt_tokens += len(self.sequence.prompt)
        if self.sequence.purpose is Purpose.GENERATE:
            statistics.answer_tokens += len(self.sequence.output)
        reason = self.sequence.finish_reason or FinishReason.ERROR
        statistics.finished[str(reason)] += 1
        statistics.by_adapter[self.sequence.adapter] += 1
