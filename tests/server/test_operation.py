"""Keys, overload, clients that leave, and the end of a server."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.running_server import Server, running

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "a"}]
LONG: dict[str, Any] = {"messages": MESSAGES, "ignore_eos": True, "max_tokens": 60_000}
SHORT: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 3}


@pytest.fixture(scope="module")
def small(tiny: Path, home: Path) -> Iterator[Server]:
    """A server that takes on little."""
    with running(tiny, home, "--max-queue", "3") as server:
        yield server


def begin(server: Server, body: dict[str, Any]) -> socket.socket:
    """Asks and leaves the answer to come; once back, the request is under way."""
    content = json.dumps(body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    )
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=300)
    connection.sendall(head.encode() + b"\r\n\r\n" + content)
    return connection


def test_keys(tiny: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# those who may\nfirst-key\n\nsecond-key \n")
    with running(tiny, home, "--api-key-file", tmp_path / "keys") as server:
        for wrong in ("", "Bearer ", "Bearer first", "Basic first-key", "Bearer # those who may", "Bearer é"):
            status, headers, content = server.call("POST", CHAT, SHORT, {"authorization": wrong})
            assert status == 401 and headers["www-authenticate"] == "Bearer"
            assert json.loads(content)["error"]["code"] == "invalid_api_key"
        for key in ("first-key", "second-key"):
            assert server.call("POST", CHAT, SHORT, {"authorization": f"Bearer {key}"})[0] == 200
        assert server.call("GET", "/metrics")[0] == 401
        assert server.call("GET", "/health")[0] == 200
        assert "first-key" not in server.log.read_text()


def test_what_is_too_much_is_refused_at_once(small: Server) -> None:
    running_ones = [begin(small, {**LONG, "stream": True}) for _ in range(3)]
    small.wait_for_metric("weft_requests_running", 3)
    status, headers, content = small.call("POST", CHAT, SHORT)
    assert status == 429 and int(headers["retry-after"]) >= 1
    assert json.loads(content)["error"]["code"] == "queue_full"
    for connection in running_ones:
        connection.close()
    small.wait_for_metric("weft_kv_blocks_used", 0)
    assert small.refused(400, CHAT, {**SHORT, "n": 4})["param"] == "n"
    assert small.call("POST", CHAT, SHORT)[0] == 200


def test_a_full_queue_refuses_at_the_door(small: Server) -> None:
    """Whole or in pieces; but health is told, and a page gets the application's answer, which it may read."""
    at_the_door = 'weft_http_responses_total{endpoint="connection",status="429"}'
    by_the_application = f'weft_http_responses_total{{endpoint="{CHAT}",status="429"}}'
    running_ones = [begin(small, {**LONG, "stream": True}) for _ in range(3)]
    small.wait_for_metric("weft_requests_running", 3)
    before = small.metric(at_the_door), small.metric(by_the_application)
    body = json.dumps({**SHORT, "user": "x" * 300_000}).encode()
    fields = f"host: x\r\nconnection: close\r\ncontent-length: {len(body)}"
    head = f"POST {CHAT} HTTP/1.1\r\n{fields}\r\n\r\n".encode()
    for parts in ([head + body], [head, body], [head[:20], head[20:], body], [head, body[:9], body[9:]]):
        with socket.create_connection(("127.0.0.1", small.port), timeout=60) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05)
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 429 ") and b'"queue_full"' in answer, answer
        assert b"\r\nretry-after: 1\r\n" in answer
    assert small.call("POST", CHAT, SHORT)[0] == 429
    assert small.call("POST", CHAT, SHORT, {"origin": small.url})[0] == 429
    assert small.call("GET", "/health")[0] == 200
    told = small.metric(at_the_door) - before[0], small.metric(by_the_application) - before[1]
    assert told in ((4, 2), (5, 1)), "a page's, and a head of which only a part has come"
    for connection in running_ones:
        connection.close()
    small.wait_for_metric("weft_kv_blocks_used", 0)


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_frees_the_memory(small: Server, stream: bool) -> None:
    for _ in range(3):
        connections = [begin(small, {**LONG, "stream": stream}) for _ in range(3)]
        small.wait_for_metric("weft_requests_running", 3)
        assert small.metric("weft_kv_blocks_used") >= 3
        for connection in connections:
            connection.close()
        small.wait_for_metric("weft_requests_running", 0)
        small.wait_for_metric("weft_kv_blocks_used", 0)
    assert small.ok(CHAT, SHORT)["choices"][0]["message"]["content"] is not None


def test_a_slow_reader_slows_nobody(small: Server) -> None:
    slow = begin(small, {**LONG, "stream": True, "max_tokens": 20_000})  # nobody reads it
    small.wait_for_metric("weft_requests_running", 1)
    for _ in range(5):
        assert small.call("POST", CHAT, SHORT)[0] == 200
    slow.close()
    small.wait_for_metric("weft_kv_blocks_used", 0)


def test_priority_and_timeout(small: Server) -> None:
    """What has come in time is the answer, be it nothing."""
    plain = small.ok(CHAT, {**SHORT, "seed": 3})["choices"][0]
    asked = small.ok(CHAT, {**SHORT, "seed": 3, "priority": -5, "timeout": 3600})["choices"][0]
    assert plain == asked
    nothing = small.ok(CHAT, {**SHORT, "timeout": 1e-6})["choices"][0]
    assert nothing["finish_reason"] == "timeout" and nothing["message"]["content"] == ""
    for timeout in (0.5, 4, 32):  # a slow machine needs the longer ones
        (choice,) = small.ok(CHAT, {**LONG, "timeout": timeout})["choices"]
        assert choice["finish_reason"] == "timeout"
        if choice["message"]["content"]:
            break
    assert choice["message"]["content"]
    small.wait_for_metric("weft_kv_blocks_used", 0)


def test_a_first_token_too_late_is_refused(tiny: Path, home: Path) -> None:
    with running(tiny, home, "--max-wait", "0.2", "--max-running", "1") as server:
        first = begin(server, {**LONG, "stream": True})
        server.wait_for_metric("weft_requests_running", 1)
        status, headers, content = server.call("POST", CHAT, SHORT)
        assert status == 503 and "retry-after" in headers
        assert json.loads(content)["error"]["code"] == "timeout"
        first.close()
        server.wait_for_metric("weft_requests_waiting", 0)


def test_sigterm_lets_answers_finish(tiny: Path, home: Path) -> None:
    with running(tiny, home) as server:
        answers: list[Any] = []
        body = {**LONG, "max_tokens": 3000, "seed": 1}
        asking = threading.Thread(target=lambda: answers.append(server.call("POST", CHAT, body)))
        asking.start()
        server.wait_for_metric("weft_requests_running", 1)
        server.process.send_signal(signal.SIGTERM)
        asking.join(300)
        assert server.process.wait(300) == 0
        status, _, content = answers[0]
        assert status == 200 and json.loads(content)["usage"]["completion_tokens"] == 3000


def test_a_server_that_ends_says_no_more_than_its_log(tiny: Path, home: Path) -> None:
    with running(tiny, home) as server:
        assert server.call("POST", CHAT, {**LONG, "max_tokens": 2})[0] == 200
        assert server.stop() == 0
        (line,) = server.log.read_text().splitlines()
        assert json.loads(line)["status"] == 200


def test_sigterm_hands_back_what_takes_too_long(tiny: Path, home: Path) -> None:
    with running(tiny, home, "--shutdown-time", "0.3") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        headers = {"content-type": "application/json"}
        connection.request("POST", CHAT, json.dumps({**LONG, "stream": True}), headers)
        response = connection.getresponse()
        server.process.send_signal(signal.SIGTERM)
        events = response.read().decode().split("\n\n")
        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert len(events) > 3
        connection.close()
        assert server.process.wait(300) == 0


def test_sigterm_cuts_who_does_not_read(tiny: Path, home: Path) -> None:
    """Streams that fill what the system buffers: the end does not wait for them, and is no fault."""
    with running(tiny, home, "--shutdown-time", "0.3") as server:
        connections = [begin(server, {**LONG, "stream": True}) for _ in range(3)]
        server.wait_until(lambda: server.metric("weft_step_rows_total") > 30_000)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 0
        for connection in connections:
            connection.close()
    assert "Traceback" not in server.log.read_text()


def test_a_port_in_use_is_said(server: Server, tiny: Path, home: Path) -> None:
    from tests.cli.run_weft import Weft

    line = Weft(home).fails(2, "serve", tiny, "--port", str(server.port))
    assert f"127.0.0.1:{server.port}" in line


def test_metrics_and_health(server: Server) -> None:
    before = server.metric("weft_answer_tokens_total")
    server.ok(CHAT, {**SHORT, "ignore_eos": True})
    assert server.metric("weft_answer_tokens_total") == before + 3
    _, headers, content = server.call("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = content.decode().splitlines()
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {
        "weft_time_to_first_token_seconds",
        "weft_thread_busy_seconds_total",
        "weft_kv_blocks",
    } <= families
    count = server.metric("weft_time_to_first_token_seconds_count")
    assert server.metric('weft_time_to_first_token_seconds_bucket{le="+Inf"}') == count > 0
    assert server.ok("/health/ready") == {"status": "ready"}
    assert server.ok("/version")["version"]
