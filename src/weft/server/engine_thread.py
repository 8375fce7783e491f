"""The thread that steps the engine for the server, and tells the event loop which answers grew.

The loop never waits for a step: it hands requests over, and is called back once after each step that gave
somebody something to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from weft.serve.engine import Engine
from weft.server.answer import Answer
from weft.server.statistics import ServerStatistics


class EngineThread:
    """Steps `engine` while there is something to do. Its methods are called from the event loop."""

    def __init__(self, engine: Engine, statistics: ServerStatistics) -> None:
        self.engine = engine
        self.failure: BaseException | None = None
        self._statistics = statistics
        self._arriving: deque[Answer] = deque()
        self._watched: list[Answer] = []  # the thread's own
        self._work = threading.Event()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="weft-engine", daemon=True)

    def start(self) -> None:
        """Begins; what grows is told to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, answers: list[Answer]) -> None:
        """Takes requests in their order. Raises as `Engine.submit` does."""
        self.engine.submit([answer.sequence for answer in answers])
        self._arriving.extend(answers)
        self._work.set()

    def cancel(self, answers: Iterable[Answer]) -> None:
        """Ends `answers` before the next step."""
        for answer in answers:
            self.engine.cancel_later(answer.sequence)
        self._work.set()

    @property
    def num_unfinished(self) -> int:
        """Answers that are under way or wait."""
        return len(self._watched) + len(self._arriving)

    def call_on_loop(self, function: Callable[[], None]) -> None:
        """Has the event loop call `function`, where it runs. Any thread may call this."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(function)

    async def close(self) -> None:
        """Ends what runs and the thread."""
        self._closing = True
        self._work.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._work.wait()
                self._work.clear()
                self.engine.run_until(self._look)
                self._look()
        except BaseException as error:  # a fault of weft: say so to all instead of leaving them to wait
            self.failure = error
            self._fail_all(error)

    def _look(self) -> bool:
        """Between steps: wakes those whose answers grew. Whether to stop stepping."""
        while self._arriving:
            self._watched.append(self._arriving.popleft())
        now = time.monotonic()
        waking = [answer for answer in self._watched if answer.look(now, self._statistics)]
        if waking:
            self._watched = [answer for answer in self._watched if not answer.ended]
            self._wake(waking)
        return self._closing

    def _wake(self, answers: list[Answer]) -> None:
        self.call_on_loop(lambda: _set_changed(answers))

    def _fail_all(self, error: BaseException) -> None:
        answers = [*self._watched, *self._arriving]
        for answer in answers:
            answer.sequence.error = answer.sequence.error or error
            answer.ended = True
        self._wake(answers)


def _set_changed(answers: list[Answer]) -> None:
    for answer in answers:
        answer.changed.set()
