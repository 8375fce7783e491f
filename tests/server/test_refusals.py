"""Bodies that are wrong or hostile: refused by name, never with a fault of the server's own."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import pytest

from tests.server.running_server import Server

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"audio": {"voice": "x"}}, "audio"),
        ({"max_token": 3}, "max_token"),
        ({"messages": [{"role": "user", "content": "a", "colour": 1}]}, "messages[...].colour"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"seed": -1}, "seed"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_a_wrong_field_is_named(server: Server, change: dict[str, Any], param: str) -> None:
    error = server.refused(400, CHAT, GOOD | change)
    assert error["type"] == "invalid_request_error"
    named = str(error["param"])
    assert named == param or named.startswith(param.split("[...]")[0]), error


def test_what_weft_does_anyway_may_be_asked_for(server: Server) -> None:
    said = {"store": False, "service_tier": "auto", "modalities": ["text"]}
    assert server.ok(CHAT, GOOD | said | {"prompt_cache_key": "a", "safety_identifier": "b"})["choices"]


def test_a_missing_field_is_named(server: Server) -> None:
    error = server.refused(400, CHAT, {"max_tokens": 1})
    assert (error["param"], error["code"]) == ("messages", "missing_required_parameter")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"messages":' * 5000,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "a"}], "n": 99999999999999999999999}',
        b'{"messages": [{"role": "user", "content": "a"}], "seed": 1' + b"0" * 5000 + b"}",
    ],
)
def test_hostile_bodies(server: Server, body: bytes) -> None:
    status, _, content = server.call("POST", CHAT, body)
    assert status == 400 and json.loads(content)["error"]["message"]


def test_random_changes_of_a_good_body(server: Server) -> None:
    generator = random.Random(5)
    good = bytearray(json.dumps(GOOD | {"temperature": 0.5, "stop": ["x"], "logit_bias": {"5": 1}}).encode())
    for _ in range(300):
        body = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            body[generator.randrange(len(body))] = generator.choice(b'\x00\xff{}[]":,019eE-.aZ')
        status, _, _ = server.call("POST", CHAT, bytes(body))
        assert status in (200, 400), bytes(body)


def test_raw_bytes_on_the_socket(server: Server) -> None:
    generator = random.Random(6)
    for _ in range(40):
        with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
            connection.sendall(generator.randbytes(generator.randint(1, 400)) + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1 << 16)
            assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert server.ok("/health") == {"status": "ok"}


def test_bodies_beyond_the_limit(server: Server) -> None:
    error = server.refused(413, CHAT, b" " * ((8 << 20) + 1))
    assert error["code"] == "body_too_large"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = b"POST /tokenize HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as connection:
        connection.sendall(head)
        with pytest.raises(OSError):
            for _ in range(2000):
                connection.sendall(chunk)
            connection.recv(100)
            raise ConnectionResetError
    assert server.ok("/health") == {"status": "ok"}


def test_paths_methods_types_and_origins(server: Server) -> None:
    assert server.refused(404, "/v1/nothing", {})["code"] == "unknown_url"
    assert server.call("GET", CHAT)[0] == 405
    assert server.call("POST", CHAT, GOOD, {"content-type": "text/plain"})[0] == 415
    for origin in ("https://example.org", "null", "http://[::1"):
        assert server.refused(403, CHAT, GOOD, origin=origin)["code"] == "origin_not_allowed"
    assert server.call("POST", CHAT, GOOD, {"origin": server.url})[0] == 200
    _, headers, _ = server.call("GET", "/version", headers={"x-request-id": "mine-1"})
    assert headers["x-request-id"] == "mine-1" and headers["x-content-type-options"] == "nosniff"


def test_texts_are_not_logged(server: Server) -> None:
    secret = "a secret that no log should hold"
    server.ok(CHAT, GOOD | {"messages": [{"role": "user", "content": secret}]})
    server.refused(400, CHAT, GOOD | {"messages": [{"role": secret, "content": secret}]})
    log = server.log.read_text()
    assert secret not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {(CHAT, 200), (CHAT, 400)} <= {(line["path"], line["status"]) for line in lines}
    assert all(line["request"] for line in lines)


def test_tokens_there_and_back(server: Server) -> None:
    ids = server.ok("/tokenize", {"prompt": "Wéft 你"})["tokens"]
    assert ids == list("Wéft 你".encode())
    assert server.ok("/detokenize", {"tokens": ids}) == {"prompt": "Wéft 你"}
    chat = server.ok("/tokenize", {"messages": [{"role": "user", "content": "a"}]})
    assert chat["count"] == len(chat["tokens"]) > 3
    assert server.refused(400, "/tokenize", {})["param"] == "prompt"
    assert server.refused(400, "/detokenize", {"tokens": [-1]})["param"] == "tokens[0]"
