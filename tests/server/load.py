"""Many connections at once to a server under test, each a few bytes of this process."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

CHAT = "/v1/chat/completions"
_MOST_UNDER_WAY = 4096
_SILENCE_S = 30.0  # after which the server ends a connection that has not asked


@dataclass
class Outcome:
    """What came of many requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0  # answers that did not come whole
    without_retry_after: int = 0  # refusals that do not say when to come again
    refusal_s: list[float] = field(default_factory=list)
    silent: int = 0  # that this process left unasked for so long that the server ended them


class Connection:
    """One request on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, body: dict[str, Any], path: str = CHAT) -> Connection:
        """Connects and asks."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 14)
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        return cls(reader, writer)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def body(self) -> bytes:
        """All that follows."""
        return await self.reader.read()


async def ask(port: int, body: dict[str, Any], outcome: Outcome) -> None:
    """One request from beginning to end, counted in `outcome`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    connection = await Connection.open(port, body)
    asked_s = loop.time() - began
    try:
        status, headers = await connection.head()
    except (asyncio.IncompleteReadError, ConnectionError):
        # On a machine that others stop for half a minute a connection may not have asked in time.
        assert asked_s >= _SILENCE_S, f"no answer to what was asked {asked_s:.1f} s after connecting"
        outcome.silent += 1
        return
    outcome.statuses[status] += 1
    if status == 429:
        outcome.refusal_s.append(loop.time() - began)
        outcome.without_retry_after += int(headers.get("retry-after", 0)) < 1
    content = await connection.body()
    whole = b"data: [DONE]" in content if body.get("stream") else content.endswith(b"}")
    outcome.broken += not whole and status == 200
    await vanish_at_once([connection])


async def ask_all(port: int, body: dict[str, Any], rate: float, seconds: float) -> Outcome:
    """Asks `rate` times a second whatever comes back, for `seconds`; returns when all have ended.

    On cores that are busy with other work both sides fall behind: then no more than so many are under way.
    """
    outcome, loop = Outcome(), asyncio.get_running_loop()
    began, asked = loop.time(), 0
    under_way: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as tasks:
        while (passed := loop.time() - began) < seconds:
            while asked < passed * rate:
                if len(under_way) < _MOST_UNDER_WAY:
                    task = tasks.create_task(ask(port, {**body, "seed": asked}, outcome))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                asked += 1
            await asyncio.sleep(0.005)
    return outcome


async def open_streams(port: int, body: dict[str, Any], count: int) -> list[Connection]:
    """Streams that have been asked for and of which nothing is read."""
    streamed = {**body, "stream": True}
    return [await Connection.open(port, streamed) for _ in range(count)]


async def begin_streams(port: int, body: dict[str, Any], count: int) -> list[Connection]:
    """Streams whose first bytes have come."""
    connections = await open_streams(port, body, count)
    for connection in connections:
        status, _ = await connection.head()
        assert status == 200, status
    return connections


async def vanish_all(port: int, body: dict[str, Any], count: int, at_once: int) -> None:
    """`count` clients, some at once, that are gone as soon as their answers have begun."""
    left = count
    while left > 0:
        connections = await begin_streams(port, body, min(at_once, left))
        left -= len(connections)
        await vanish_at_once(connections)


async def vanish_at_once(connections: list[Connection]) -> None:
    """All are gone when this returns."""
    for connection in connections:
        connection.writer.transport.abort()
    for _ in range(2):  # the loop closes them at its next turn
        await asyncio.sleep(0)
