"""More than a server can do: the excess is refused, the rest answered; who leaves leaves nothing behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import load
from tests.server.running_server import Server, running

MESSAGES = [{"role": "user", "content": "a"}]
LONG: dict[str, Any] = {"messages": MESSAGES, "ignore_eos": True, "max_tokens": 8000}
SHORT: dict[str, Any] = {"messages": MESSAGES, "ignore_eos": True, "max_tokens": 200}
MAX_QUEUE = 32
MIB = 1 << 20


@pytest.fixture
def server(tiny: Path, home: Path) -> Iterator[Server]:
    """A server of its own, so that no other test's memory counts."""
    flags = ("--max-queue", str(MAX_QUEUE), "--threads", "1", "--kv-memory", "8MiB")
    with running(tiny, home, *flags, "--ctx-size", "8192") as server:
        yield server
    assert "Traceback" not in server.log.read_text()


def nothing_is_held(server: Server) -> None:
    """Waits until no answer is under way and no memory of the cache is held."""
    for name in ("weft_requests_running", "weft_requests_waiting", "weft_kv_blocks_used"):
        server.wait_for_metric(name, 0)


def capacity(server: Server) -> float:
    """Answers a second that the server can give, measured with its queue half full.

    The best of several turns: on a machine that others stop for seconds the mean would say too little.
    """

    async def keep_busy() -> float:
        outcome, loop, num_answers, rates = load.Outcome(), asyncio.get_running_loop(), MAX_QUEUE // 2, []
        for _ in range(8):
            began = loop.time()
            await asyncio.gather(*(load.ask(server.port, SHORT, outcome) for _ in range(num_answers)))
            rates.append(num_answers / (loop.time() - began))
        assert outcome.statuses.keys() == {200} and not outcome.broken
        return max(rates)

    return asyncio.run(keep_busy())


def overload(server: Server, seconds: float) -> load.Outcome:
    """Ten times what the server can serve, for `seconds`; holds what must be true of each answer."""
    rate = 10 * capacity(server)
    outcome = asyncio.run(load.ask_all(server.port, SHORT, rate, seconds))
    assert outcome.statuses.keys() <= {200, 429}, outcome.statuses
    assert outcome.statuses[429] > 0 and outcome.statuses[200] > 0, outcome.statuses
    assert outcome.broken == 0 and outcome.without_retry_after == 0
    assert outcome.silent <= outcome.statuses[429] // 10
    nothing_is_held(server)
    return outcome


def test_the_excess_is_refused_and_the_rest_answered(server: Server) -> None:
    overload(server, 4)


def test_a_connection_too_many_is_refused(tiny: Path, home: Path) -> None:
    async def ask_beside(server: Server) -> None:
        streams = await load.begin_streams(server.port, LONG, 2)
        outcome = load.Outcome()
        await load.ask(server.port, SHORT, outcome)
        assert outcome.statuses == {429: 1} and outcome.without_retry_after == 0
        body = await asyncio.to_thread(server.refused, 429, load.CHAT, {**SHORT, "user": "x" * 100_000})
        assert body["code"] == "too_many_connections" and "2 connections" in body["message"]
        await load.vanish_at_once(streams)

    with running(tiny, home, "--max-connections", "2") as server:
        asyncio.run(ask_beside(server))
        server.wait_until(lambda: server.call("GET", "/health")[0] == 200)
        nothing_is_held(server)
        assert server.metric('weft_http_responses_total{endpoint="connection",status="429"}') >= 2


@pytest.mark.soak
def test_ten_minutes_of_ten_times_too_much(server: Server) -> None:
    """Flat: Python's memory fills up in the first minute, with as many connections as the server takes; then
    no more than the gaps between its objects move, and less in the second half than in the whole.
    """
    overload(server, 60)
    memory = [server.memory_bytes()]
    for _ in range(2):
        probe = [sys.executable, "-m", "tests.server.probe", str(server.port), "300"]
        with subprocess.Popen(probe, stdout=subprocess.PIPE, text=True) as asking:
            outcome = overload(server, 300)
            print(f"one at a time beside the load: {asking.communicate()[0].strip()}")
        assert outcome.statuses[429] > outcome.statuses[200], f"ten times too much: {outcome.statuses}"
        memory.append(server.memory_bytes())
    refused = sorted(outcome.refusal_s)
    median_ms = refused[len(refused) // 2] * 1e3
    print(
        f"{outcome.statuses}, {outcome.silent} silent, refusals reached the load after {median_ms:.1f} ms; "
        f"{[n >> 10 for n in memory]} KiB"
    )
    assert memory[2] < memory[0] + 16 * MIB
    assert memory[2] < memory[1] + 4 * MIB


async def vanish_in_turns(server: Server, count: int) -> None:
    """`count` clients vanish in mid-answer, as many at once as the server takes; then all is given back."""
    for begin in range(0, count, MAX_QUEUE):
        num_here = min(MAX_QUEUE, count - begin)
        await load.vanish_all(server.port, LONG, num_here, num_here)
        await asyncio.to_thread(nothing_is_held, server)


def vanish(server: Server, count: int) -> int:
    """`count` clients vanish; the memory that the server grew by meanwhile.

    The cache keeps blocks for texts that begin alike; memory is flat once it keeps all of them.
    """
    while server.metric("weft_kv_blocks_idle") < server.metric("weft_kv_blocks"):
        asyncio.run(vanish_in_turns(server, MAX_QUEUE))
    before = server.memory_bytes()
    asyncio.run(vanish_in_turns(server, count))
    return server.memory_bytes() - before


def test_who_vanishes_leaves_nothing(server: Server) -> None:
    assert vanish(server, 8 * MAX_QUEUE) < 16 * MIB
    assert server.metric("weft_disconnects_total") >= 8 * MAX_QUEUE


@pytest.mark.soak
def test_ten_thousand_vanish(server: Server) -> None:
    assert vanish(server, 10_000) < 16 * MIB


def test_who_vanishes_ends_within_a_step(server: Server) -> None:
    async def steps_until_free() -> float:
        connections = await load.begin_streams(server.port, LONG, MAX_QUEUE)
        await load.vanish_at_once(connections)
        await asyncio.to_thread(nothing_is_held, server)
        return server.metric("weft_steps_total")

    ended = asyncio.run(steps_until_free())
    time.sleep(0.2)
    assert server.metric("weft_steps_total") == ended, "no step without anybody to answer"


def test_slow_readers_slow_nobody(server: Server) -> None:
    async def answer_beside_slow_readers() -> None:
        slow = await load.open_streams(server.port, LONG, MAX_QUEUE // 2)  # nothing of them is read
        outcome = load.Outcome()
        await asyncio.to_thread(server.wait_for_metric, "weft_requests_running", len(slow))
        rows = server.metric("weft_step_rows_total")
        await asyncio.gather(*(load.ask(server.port, SHORT, outcome) for _ in range(4)))
        assert outcome.statuses == {200: 4} and not outcome.broken
        assert server.metric("weft_step_rows_total") > rows + 5 * 200, "they go on meanwhile"
        await load.vanish_at_once(slow)

    asyncio.run(answer_beside_slow_readers())
    nothing_is_held(server)


def test_a_thousand_waiting_streams_are_small(tiny: Path, home: Path) -> None:
    async def wait_all(server: Server) -> int:
        warm = await load.begin_streams(server.port, SHORT, 8)
        await asyncio.gather(*(connection.body() for connection in warm))
        before = server.memory_bytes()
        await load.vanish_at_once(warm)
        streams = await load.begin_streams(server.port, LONG, 1)
        streams += await load.open_streams(server.port, LONG, 1000)
        await asyncio.to_thread(server.wait_for_metric, "weft_requests_waiting", 1000)
        grown = server.memory_bytes() - before
        await load.vanish_at_once(streams)
        return grown

    with running(tiny, home, "--max-queue", "1001", "--max-running", "1", "--max-wait", "600") as server:
        grown = asyncio.run(wait_all(server))
        print(f"1,000 waiting streams take {grown / 1e6:.1f} MB")
        assert grown < 60e6
        nothing_is_held(server)


def test_a_thousand_streams_that_nobody_reads_are_small(tiny: Path, home: Path) -> None:
    answer = {**SHORT, "max_tokens": 100}

    async def answer_all(server: Server) -> int:
        warm = await load.begin_streams(server.port, answer, 8)
        await asyncio.gather(*(connection.body() for connection in warm))
        before = server.memory_bytes()
        streams = await load.open_streams(server.port, answer, 1000)
        finished = 'weft_requests_finished_total{reason="length"}'
        await asyncio.to_thread(server.wait_for_metric, finished, 1008)
        grown = server.memory_bytes() - before
        await load.vanish_at_once([*warm, *streams])
        return grown

    flags = ("--max-queue", "1001", "--max-running", "32", "--max-wait", "600", "--kv-memory", "8MiB")
    with running(tiny, home, *flags) as server:
        grown = asyncio.run(answer_all(server))
        print(f"1,000 answers that nobody reads take {grown / 1e6:.1f} MB")
        assert grown < 60e6
        nothing_is_held(server)
