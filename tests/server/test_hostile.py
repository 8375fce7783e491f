"""Hostile requests by the thousand: none has the server fail, crash, or keep what it took."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server import raw_requests
from tests.server.running_server import Server, running

described_requests = pytest.importorskip("tests.server.described_requests", reason="needs schemathesis")

THREADS = 8
PATIENCE_S = 0.1  # with what is answered late, if at all: a body that is cut off
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)


@pytest.fixture(scope="module")
def small(tiny: Path, home: Path) -> Iterator[Server]:
    """A server of a short context, so that no answer is long."""
    with running(tiny, home, "--ctx-size", "96", "--max-queue", "64", "--threads", "1") as server:
        yield server
        assert server.process.poll() is None, server.log.read_text()[-4000:]
    assert server.process.returncode == 0
    assert "Traceback" not in server.log.read_text(), server.log


def send_raw(server: Server, content: bytes) -> list[int]:
    """Sends bytes and reads to the end; the statuses that came."""
    answer = bytearray()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=300)
    with connection, contextlib.suppress(OSError):  # it may be cut off in the middle of what it sends
        connection.sendall(content)
        if select.select([connection], [], [], PATIENCE_S)[0]:
            answer += connection.recv(1 << 16)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            answer += part
    return [int(status) for status in STATUS.findall(bytes(answer))]


def send_many_raw(server: Server, count: int, seed: int) -> Counter[int]:
    """Sends `count` requests that no client would send, some at once; how often each status came."""

    def send(part: int) -> Counter[int]:
        generator, found = random.Random(f"{seed} {part}"), Counter()
        for _ in range(count // THREADS):
            content = raw_requests.request(generator)
            statuses = send_raw(server, content)
            assert all(status < 500 for status in statuses), (statuses, content[:2000])
            found.update(statuses)
        return found

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(send, range(THREADS)), Counter())


@contextlib.contextmanager
def nothing_kept(server: Server) -> Iterator[None]:
    """Holds that whatever requests take is given back: seats, memory of the cache, connections."""
    server.ok("/health")
    descriptors = server.num_descriptors() + 1  # this connection may be closed on the server's side by now
    yield
    for name in ("weft_requests_running", "weft_requests_waiting", "weft_kv_blocks_used"):
        server.wait_for_metric(name, 0)
    server.wait_until(
        lambda: server.num_descriptors() <= descriptors,
        lambda: f"{server.num_descriptors()} open descriptors stay, not {descriptors}",
    )


def test_requests_from_the_description(small: Server) -> None:
    with nothing_kept(small):
        assert described_requests.send(small, 120, seed=11) >= 100


def test_requests_in_raw_bytes(small: Server) -> None:
    with nothing_kept(small):
        statuses = send_many_raw(small, 800, seed=12)
    assert statuses[200] > 0 and statuses[400] > 50  # what a busy machine answers late is not waited for
    assert small.ok("/v1/completions", {"prompt": "a", "max_tokens": 1})["choices"]


def test_a_head_and_then_no_http(small: Server) -> None:
    head = b"GET /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert send_raw(small, head + b"no length\r\n") == [400]
    assert "Traceback" not in small.log.read_text()


@pytest.mark.soak
def test_a_hundred_thousand(small: Server) -> None:
    send_many_raw(small, 5000, seed=21)
    before = small.memory_bytes()
    with nothing_kept(small):
        send_many_raw(small, 85_000, seed=22)
        assert described_requests.send(small, 10_000, seed=23) >= 9_500
    assert small.memory_bytes() < before + (32 << 20)
