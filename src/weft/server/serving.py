"""Runs the server in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn

from weft.config import format_bytes
from weft.errors import ConfigError
from weft.runtime import KvCache
from weft.server.app import ENDPOINTS, make_app
from weft.server.door import Connection, Door, allow_files
from weft.server.errors import overloaded
from weft.server.refusal import answer_of, asks_for_answers
from weft.server.service import Service

_LAST_WORDS_S = 1.0  # between handing back what runs and cutting connections
# How requests begin that wait in the queue.
_QUEUED = tuple(f"{each.method} {each.path} ".encode() for each in ENDPOINTS if 429 in each.refusals)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"Expected to listen on {host}:{port}, got {error}; choose another --host or --port."
        ) from error


def serve(service: Service, listening: socket.socket) -> None:
    """Answers requests until SIGINT or SIGTERM; then what runs may finish within the time for it."""
    log = logging.getLogger("weft.server")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [logging.StreamHandler(sys.stderr)]
    config = uvicorn.Config(
        make_app(service),
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(service.config.shutdown_time + _LAST_WORDS_S + 1),
    )
    allow_files(service.config.num_connections)
    print(_introduction(service, listening), flush=True)
    server = _Server(config, service)
    try:
        server.run(sockets=[listening])
    finally:
        server.cancel_hand_back()


class _Server(uvicorn.Server):
    """Refuses what comes after the signal, and ends in time what came before."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._hand_back: threading.Timer | None = None
        self._doors: list[Door] = []
        limit = service.config.max_queue
        self._full = answer_of(overloaded(f"{limit} answers under way of at most {limit}"))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])  # the doors accept, not uvicorn
        limit = self._service.config.num_connections
        self._doors = [
            Door(listening, self._make_connection, limit, self._refuse, self._note_refused)
            for listening in sockets or []
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for door in self._doors:
            door.close()
        await super().shutdown(sockets)

    def _refuse(self, data: bytes) -> bytes | None:
        """What the application would say to a request where the queue is full, at little cost."""
        return self._full if self._service.is_full and asks_for_answers(data, _QUEUED) else None

    def _note_refused(self) -> None:
        self._service.statistics.responses["connection", 429] += 1

    def _make_connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.draining = True
        if self._hand_back is None:
            call = self._service.engine_thread.call_on_loop
            self._hand_back = threading.Timer(self._service.config.shutdown_time, call, (self._end_answers,))
            self._hand_back.daemon = True
            self._hand_back.start()
        # A second Ctrl-C does not wait. The signal is not raised again at the end: stopping is no failure.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    def _end_answers(self) -> None:
        self._service.hand_back()
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._cut)

    def _cut(self) -> None:
        """Ends connections whose clients do not read the last words."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def cancel_hand_back(self) -> None:
        """Ends the wait for the time to hand back, which would hold the model beyond the end of Python."""
        if self._hand_back is not None:
            self._hand_back.cancel()
            self._hand_back.join()


def _introduction(service: Service, listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    model = service.model
    threads = model.pool.num_threads
    kept = "KV cache" if isinstance(model.cache, KvCache) else "states"
    return (
        f"weft: {service.served.name} at http://{shown}:{port} (API at /v1); "
        f"{threads} thread{'s' if threads != 1 else ''}, "
        f"{format_bytes(model.cache.nbytes)} of {kept} for texts of up to {model.max_context} tokens"
    )
