"""Responses that end with their client: who leaves in the middle of an answer cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from weft.server.errors import ApiError, json_response
from weft.server.run import Run
from weft.tasks.completion import Completion

DONE = b"data: [DONE]\n\n"

T = TypeVar("T")


async def reply(
    request: Request,
    run: Run,
    events: AsyncIterator[bytes] | None,
    whole: Callable[[list[Completion]], Any],
) -> Response:
    """The answers of `run`: streamed where there are `events`, else as `whole` makes them one object."""
    try:
        await while_connected(request, run.begun())
        if events is not None:
            return EventStream(run, events)
        completions = await while_connected(request, run.finished())
    except BaseException:
        run.close()
        raise
    run.close()
    return json_response(whole(completions))


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; cancels it and raises ClientDisconnect when the client leaves before."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        leaving.cancel()
        working.cancel()
        # Their ends are awaited, so that what they hold is free when this returns.
        await asyncio.gather(working, leaving, return_exceptions=True)


def event(content: Any) -> bytes:
    """`content` as a server-sent event."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


class EventStream(Response):
    """Server-sent events of a run, closed with it. An error after the first event becomes an event."""

    def __init__(self, run: Run, events: AsyncIterator[bytes]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._run = run
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all events, or as many as the client stays for."""
        request = Request(scope, receive)
        try:
            await while_connected(request, self._send_all(send))
        finally:
            self._run.close()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for content in self._events:
                await send({"type": "http.response.body", "body": content, "more_body": True})
        except ApiError as error:
            await send({"type": "http.response.body", "body": event(error.content), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
