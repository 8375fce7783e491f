"""Connections that a server takes: only so many at once, and none that stays silent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
from collections.abc import Callable

import msgspec
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from weft.server.errors import overloaded

# Of one answer, besides what the system itself buffers; then nothing is written until the client reads.
_MAX_UNSENT_BYTES = 1 << 13
_SILENCE_S = 30.0  # until the first request of a connection
_LINGER_S = 1.0  # for a client that is refused to read that
_MOST_REFUSED = 2048  # at once; others wait in the system's queue
_BURST = 256  # connections that are accepted before those inside have a turn
_OTHER_FILES = 128  # that the process has open, or the interpreter opens
_OUT_OF_FILES_PAUSE_S = 0.1


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """A connection that keeps little of what its client does not read, and ends where none asks for anything.

    on_lost: called when it is over.
    """

    on_lost: Callable[[], None]
    _silence: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_MAX_UNSENT_BYTES)
        self._silence = self.loop.call_later(_SILENCE_S, self._end_silence)

    def connection_lost(self, error: Exception | None) -> None:
        self._silence.cancel()
        super().connection_lost(error)
        self.on_lost()

    def _end_silence(self) -> None:
        if self.cycle is None:
            self.transport.close()


class Refusal(asyncio.Protocol):
    """A connection too many: whatever it asks, it is told to come again, at little cost."""

    def __init__(self, told: bytes, on_lost: Callable[[], None]) -> None:
        self._told = told
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._end = asyncio.get_running_loop().call_later(_SILENCE_S, transport.close)

    def data_received(self, data: bytes) -> None:
        if not self._told:
            return  # the rest of the request
        self._transport.write(self._told)
        self._told = b""
        self._end.cancel()
        # Closed at once, the system would reset what comes of the request yet, and the client miss this.
        self._transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)

    def connection_lost(self, error: Exception | None) -> None:
        self._end.cancel()
        self._on_lost()


class Door:
    """Accepts connections from a listening socket and refuses those beyond `max_connections` at once.

    Without a limit a burst of clients decides how large the process grows, and Python gives back little of
    that. on_refused: called for each. For the event loop's thread.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], Connection],
        max_connections: int,
        on_refused: Callable[[], None],
    ) -> None:
        self._listening = listening
        self._make = make
        self._max_connections = max_connections
        self._num_connections = 0
        self._on_refused = on_refused
        self._refusal = _refusal(max_connections)
        self._room = asyncio.Semaphore(max_connections + _MOST_REFUSED)
        self._entering: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Accepts no more."""
        self._accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            await self._room.acquire()
            try:
                accepted, _ = await loop.sock_accept(self._listening)
            except OSError:  # out of files or memory, or the client is gone
                self._room.release()
                await asyncio.sleep(_OUT_OF_FILES_PAUSE_S)
                continue
            protocol = self._protocol()
            task = loop.create_task(_enter(accepted, protocol))
            self._entering.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._entering.discard)
            if number % _BURST == 0:
                await asyncio.sleep(0)

    def _protocol(self) -> asyncio.Protocol:
        if self._num_connections == self._max_connections:
            self._on_refused()
            return Refusal(self._refusal, self._room.release)
        self._num_connections += 1
        connection = self._make()
        connection.on_lost = self._left
        return connection

    def _left(self) -> None:
        self._num_connections -= 1
        self._room.release()


async def _enter(accepted: socket.socket, protocol: asyncio.Protocol) -> None:
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)


def _refusal(max_connections: int) -> bytes:
    """The whole answer to a connection too many."""
    error = overloaded(f"{max_connections} connections, which are all there may be", "too_many_connections")
    content = msgspec.json.encode(error.content)
    head = (
        "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"retry-after: {error.retry_after_s}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def allow_files(max_connections: int) -> None:
    """Raises the process's limit of open files to what so many connections need, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _MOST_REFUSED + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
