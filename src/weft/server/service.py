"""What all endpoints share: the model, the thread that steps its engine, and what is admitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from weft.serve.recent_runs import RecentRuns
from weft.serve.sequence import Sequence
from weft.server.answer import Answer
from weft.server.config import ServerConfig
from weft.server.engine_thread import EngineThread
from weft.server.errors import ApiError, overloaded, unavailable
from weft.server.run import Run
from weft.server.served import Served
from weft.server.statistics import ServerStatistics
from weft.tasks.model import Model

INLINE_CHARACTERS = 4096  # longer texts are tokenized on another thread, so that the loop goes on

T = TypeVar("T")


@dataclass
class Service:
    """The server's state. For the event loop's thread."""

    served: Served
    config: ServerConfig
    keys: tuple[bytes, ...] = ()  # digests of the API keys; none where all are let in
    statistics: ServerStatistics = field(default_factory=ServerStatistics)
    draining: bool = False
    started_at: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.engine_thread = EngineThread(self.model.engine, self.statistics)
        self.recent_runs = RecentRuns(self.model.runner, 2 * self.model.pool.num_teams)
        self._runs: set[Run] = set()
        self._admitting = 0  # answers let in whose prompts are not yet with the engine

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self.served.model

    @property
    def num_unfinished(self) -> int:
        """Answers that are under way or wait."""
        return self.engine_thread.num_unfinished + self._admitting

    @property
    def is_full(self) -> bool:
        """Whether no further answer is let in for now."""
        return not self.draining and self.num_unfinished >= self.config.max_queue

    def check_room(self, num_answers: int) -> None:
        """Raises ApiError where the server shuts down or has too much to do."""
        if self.draining:
            raise unavailable(
                "Expected a running server, got one that shuts down; try again.", "shutting_down"
            )
        if self.engine_thread.failure is not None:
            raise unavailable("Expected a running engine, got one that failed; restart the server.", "failed")
        limit = self.config.max_queue
        if num_answers > limit:
            raise ApiError(
                400, f"Expected at most {limit} answers, got {num_answers}; ask for fewer.", param="n"
            )
        if self.num_unfinished + num_answers > limit:
            raise overloaded(f"{self.num_unfinished} answers under way of at most {limit}")

    async def prepare(
        self, num_answers: int, length: int, make: Callable[[], T], *, takes_long: bool = False
    ) -> T:
        """What `make` gives for texts of `length` characters; meanwhile the answers' places are kept.

        takes_long: whether it does for another reason.
        """
        self.check_room(num_answers)
        if length <= INLINE_CHARACTERS and not takes_long:
            return make()
        self._admitting += num_answers
        try:
            return await asyncio.to_thread(make)
        finally:
            self._admitting -= num_answers

    def run(self, sequences: list[Sequence], *, streams: bool) -> Run:
        """Hands requests to the engine; close the run that comes back. Raises PromptError, ThreadError."""
        changed = asyncio.Event()
        tokenizer = self.model.tokenizer
        answers = [Answer(sequence, tokenizer, changed, streams) for sequence in sequences]
        self.engine_thread.submit(answers)
        run = Run(self, answers, changed)
        self._runs.add(run)
        return run

    def forget(self, run: Run) -> None:
        """Ends what is left of `run`."""
        self._runs.discard(run)
        self.engine_thread.cancel(answer for answer in run.answers if not answer.sequence.finished)

    def hand_back(self) -> None:
        """Ends all answers under way; their clients get what came, and an error."""
        for run in self._runs:
            run.refuse(unavailable("Expected time to finish, got a server that shut down.", "shutting_down"))
