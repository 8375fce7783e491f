"""Connections that a server takes: only so many at once, and none that stays silent."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from weft.server.errors import overloaded
from weft.server.refusal import answer_of, is_whole

# Of one answer, besides what the system itself buffers; then nothing is written until the client reads.
_MAX_UNSENT_BYTES = 1 << 13
_MAX_FIRST_BYTES = 1 << 16  # of a request that is looked at before it is let in
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


class Arrival(asyncio.Protocol):
    """A connection that is let in with its first bytes, or told to come again.

    data: what has come already. has_room: whether it may be let in.
    """

    def __init__(self, door: Door, data: bytes, has_room: bool) -> None:
        self._door = door
        self._data = data
        self.has_room = has_room
        self._is_refused = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._end = asyncio.get_running_loop().call_later(_SILENCE_S, transport.close)
        if self._data:
            self.data_received(self._data)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return  # the rest of the request
        self._end.cancel()
        transport = self.transport
        assert transport is not None
        told = self._door.refusal(data, self.has_room)
        if told is None:
            self._door.let_in(self, transport, data)
            return
        self._is_refused = True
        transport.write(told)
        # Closed at once, the system would reset what comes of the request yet, and the client miss this.
        transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(_LINGER_S, transport.close)

    def connection_lost(self, error: Exception | None) -> None:
        self._end.cancel()
        self._door.leave(self)

    def end(self) -> None:
        """Ends it, whatever it may still ask."""
        if self.transport is not None:
            self.transport.close()


class Door:
    """Accepts connections from a listening socket and refuses those that are too many at once.

    Without a limit a burst of clients decides how large the process grows, and Python gives back little of
    that. Whoever is refused is told so in the turn of the loop that finds the request, before those inside go
    on: the excess does not wait for what it is refused for.

    make: gives a connection for who is let in. refuse: the answer to a request that begins with these bytes,
    None to let it in. on_refused: called for each. For the event loop's thread.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], Connection],
        max_connections: int,
        refuse: Callable[[bytes], bytes | None],
        on_refused: Callable[[], None],
    ) -> None:
        self._listening = listening
        self._make = make
        self._max_connections = max_connections
        self._num_inside = 0
        self._num_refused = 0  # that linger
        self._refuse = refuse
        self._on_refused = on_refused
        error = overloaded(
            f"{max_connections} connections, which are all there may be", "too_many_connections"
        )
        self._too_many = answer_of(error)
        self._arrivals: set[Arrival] = set()
        self._entering: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._is_open = False
        listening.setblocking(False)
        self._open()

    def close(self) -> None:
        """Accepts no more; ends connections that have not asked for anything."""
        self._shut()
        self._max_connections = 0
        for arrival in self._arrivals:
            arrival.end()

    def refusal(self, data: bytes, has_room: bool) -> bytes | None:
        """What a connection is told whose first bytes are `data`; None where it is let in."""
        told = self._refuse(data) if has_room else self._too_many
        if told is not None:
            self._on_refused()
        return told

    def let_in(self, arrival: Arrival, transport: asyncio.Transport, data: bytes) -> None:
        """Makes `arrival` a connection over `transport` that begins with `data`."""
        self._arrivals.discard(arrival)
        connection = self._make()
        connection.on_lost = self._left
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(data)

    def leave(self, arrival: Arrival) -> None:
        """Takes note that `arrival` is over."""
        self._arrivals.discard(arrival)
        if arrival.has_room:
            self._left()
        else:
            self._num_refused -= 1
            self._open()

    def _left(self) -> None:
        self._num_inside -= 1
        self._open()

    def _open(self) -> None:
        if not self._is_open and self._max_connections and self._has_files():
            self._is_open = True
            self._loop.add_reader(self._listening, self._accept_some)

    def _shut(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listening)

    def _has_files(self) -> bool:
        return self._num_inside + self._num_refused < self._max_connections + _MOST_REFUSED

    def _accept_some(self) -> None:
        for _ in range(_BURST):
            if not self._has_files():
                self._shut()
                return
            try:
                accepted, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError:  # out of files or memory, or the client is gone
                self._shut()
                self._loop.call_later(_OUT_OF_FILES_PAUSE_S, self._open)
                return
            self._receive(accepted)

    def _receive(self, accepted: socket.socket) -> None:
        """Refuses who can be refused at once, without a place in the loop; lets others arrive."""
        has_room = self._num_inside < self._max_connections
        data = b""
        with contextlib.suppress(OSError):  # nothing has come, or the client is gone
            data = accepted.recv(_MAX_FIRST_BYTES, socket.MSG_DONTWAIT)
        if data and is_whole(data) and (told := self.refusal(data, has_room)) is not None:
            with accepted, contextlib.suppress(OSError):
                accepted.send(told, socket.MSG_DONTWAIT)
            return
        self._num_inside += has_room
        self._num_refused += not has_room
        arrival = Arrival(self, data, has_room)
        self._arrivals.add(arrival)
        accepted.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: arrival, accepted))
        self._entering.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._entering.discard)


def allow_files(max_connections: int) -> None:
    """Raises the process's limit of open files to what so many connections need, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _MOST_REFUSED + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
