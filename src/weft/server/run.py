"""The answers to one request over HTTP: waited for, read in pieces, or broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from weft.server.answer import Answer
from weft.server.errors import ApiError, of_weft, unavailable
from weft.tasks.completion import Completion, Piece

if TYPE_CHECKING:
    from weft.server.service import Service


class Run:
    """Several answers under way, in their order. Close it however it ends: what has not come is cancelled."""

    def __init__(self, service: Service, answers: list[Answer], changed: asyncio.Event) -> None:
        self.answers = answers
        self._service = service
        self._changed = changed
        self._refusal: ApiError | None = None

    async def begun(self) -> None:
        """Returns when something has come. Raises ApiError when nothing came in time."""
        limit = self._service.config.max_wait
        try:
            async with asyncio.timeout(limit):
                while not any(answer.begun for answer in self.answers):
                    await self._news()
        except TimeoutError:
            raise unavailable(
                f"Expected a first token within {limit:g} s, got none; try again later.", "timeout"
            ) from None
        self._raise_failure()
        self._changed.set()  # what has come is still to be read

    async def finished(self) -> list[Completion]:
        """All answers, whole. Raises ApiError when one failed."""
        while not all(answer.ended for answer in self.answers):
            await self._news()
        self._raise_failure()
        return [answer.reader.completion() for answer in self.answers]

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """The answers' pieces as they come, each with its answer's place. Raises ApiError when one failed."""
        reading = dict(enumerate(self.answers))
        while reading:
            await self._news()
            self._raise_failure()
            for place, answer in list(reading.items()):
                if answer.num_seen == answer.reader.num_read and not answer.ended:
                    continue
                piece = answer.reader.read()
                if piece.finish_reason is not None:
                    del reading[place]
                yield place, piece

    def refuse(self, error: ApiError) -> None:
        """Ends the run with `error`, whoever reads it."""
        self._refusal = error
        self._changed.set()

    def close(self) -> None:
        """Cancels what has not come. A second call does nothing."""
        self._service.forget(self)

    async def _news(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        if self._refusal is not None:
            raise self._refusal

    def _raise_failure(self) -> None:
        for answer in self.answers:
            if answer.sequence.error is not None:
                raise of_weft(answer.sequence.error) from answer.sequence.error
