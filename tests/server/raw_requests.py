"""Requests as bytes, most of them no HTTP or no JSON that anybody should send; the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

PATHS = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")
GOOD = {
    "messages": [{"role": "user", "content": "a"}],
    "max_tokens": 2,
    "temperature": 0.5,
    "stop": ["x"],
    "logit_bias": {"5": 1},
    "stream": True,
    "seed": 3,
}
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "-0", "0x10", "1.5", "01", "1e-400")
TEXTS = ('"\\ud800"', '"\\u0000"', '"a\x00b"', '"\\x"', '"' + "a" * 70_000 + '"', '"\U0010ffff"', "'a'", '""')
OTHERS = ("null", "true", "[]", "{}", "[" * 3000, '{"a":' * 3000, "[[[1]]]", '{"":{"":0}}', '"assistant"')


def request(generator: random.Random) -> bytes:
    """One request, and perhaps more in the same bytes."""
    return generator.choice(_KINDS)(generator)


def post(path: str, body: bytes, *lines: str, length: int | None = None) -> bytes:
    """A request with `body`, `lines` as further headers, and a length that may be another than the body's."""
    head = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *lines]
    head.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def _wrong_values(generator: random.Random) -> bytes:
    """One or more fields with values of another kind, far too large, or no JSON at all."""
    fields = {name: json.dumps(value) for name, value in GOOD.items()}
    for _ in range(generator.randint(1, 3)):
        name = generator.choice(
            [*fields, "n", "top_p", "prompt", "tokens", "logprobs", "response_format", "x"]
        )
        fields[name] = generator.choice(generator.choice((NUMBERS, TEXTS, OTHERS)))
    body = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    return post(generator.choice(PATHS), body.encode())


def _changed_bytes(generator: random.Random) -> bytes:
    """A good body with some bytes changed: bad UTF-8, null bytes, broken brackets."""
    body = bytearray(json.dumps(GOOD).encode())
    for _ in range(generator.randint(1, 6)):
        body[generator.randrange(len(body))] = generator.randrange(256)
    return post(generator.choice(PATHS), bytes(body))


def _nested(generator: random.Random) -> bytes:
    """JSON that goes deep."""
    depth = generator.choice((100, 1000, 10_000, 100_000))
    opening, closing = generator.choice((("[", "]"), ('{"messages":', "}"), ('{"a":[', "]}")))
    whole = generator.random() < 0.5
    return post(generator.choice(PATHS), (opening * depth + "0" + closing * depth * whole).encode())


def _lying_length(generator: random.Random) -> bytes:
    """A content-length beside the truth, or no number."""
    body = json.dumps(GOOD).encode()
    path = generator.choice(PATHS)
    lines = generator.choice(
        (
            ("content-length: 5",),
            ("content-length: -1",),
            ("content-length: 1e3",),
            ("content-length: " + "9" * 100,),
            ("transfer-encoding: chunked",),
            ("transfer-encoding: gzip",),
            ("expect: 100-continue",),
            (),
        )
    )
    return post(path, body, *lines, length=generator.choice((0, 1, len(body) - 1, len(body) + 1, 1 << 40)))


def _chunked(generator: random.Random) -> bytes:
    """A chunked body, its sizes true or not."""
    chunks = [generator.randbytes(generator.randint(0, 40)) for _ in range(generator.randint(0, 5))]
    sizes = [generator.choice((f"{len(chunk):x}", "ffffffffffffffff1", "-1", "zz", "")) for chunk in chunks]
    body = b"".join(
        size.encode() + b"\r\n" + chunk + b"\r\n" for size, chunk in zip(sizes, chunks, strict=True)
    )
    end = generator.choice((b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b""))
    head = f"POST {generator.choice(PATHS)} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode() + body + end


def _odd_heads(generator: random.Random) -> bytes:
    """Headers that are huge, many, broken, doubled or of odd bytes."""
    line = generator.choice(
        (
            b"a: " + b"b" * generator.choice((1000, 60_000, 200_000)),
            b"\r\n".join(b"h%d: x" % number for number in range(generator.choice((50, 3000)))),
            b"content-type: application/json; charset=\xff\xfe",
            b"authorization: Bearer \x00\x01",
            b"x-request-id: " + generator.randbytes(20).replace(b"\n", b"").replace(b"\r", b""),
            b"origin: http://[::1",
            b"origin: null",
            b"host: y\r\nhost: z",
            b" folded: x",
            b"no colon",
            b": no name",
            b"upgrade: websocket\r\nconnection: upgrade",
            b"upgrade: h2c\r\nconnection: upgrade, http2-settings",
        )
    )
    body = json.dumps(GOOD).encode()
    head = f"POST {generator.choice(PATHS)} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + line + b"\r\n\r\n" + body


def _odd_lines(generator: random.Random) -> bytes:
    """First lines that are none of HTTP's, or paths and methods that are not served."""
    line = generator.choice(
        (
            b"GET / HTTP/9.9",
            b"GET /health HTTP/1.0",
            b"GET /%00%ff%2e%2e/etc/passwd HTTP/1.1",
            b"GET /v1/models/../../../../etc/passwd HTTP/1.1",
            b"GET /v1/models/%F0%9F HTTP/1.1",
            b"GET /" + b"a" * generator.choice((500, 70_000)) + b" HTTP/1.1",
            b"GET http://other.example/health HTTP/1.1",
            b"GET /openapi.json?" + generator.randbytes(8).hex().encode() + b"=%zz HTTP/1.1",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0",
            b"OPTIONS * HTTP/1.1",
            b"CONNECT x:1 HTTP/1.1",
            b"DELETE /v1/models HTTP/1.1",
            b"get /health http/1.1",
            b"GET\x00/health HTTP/1.1",
            generator.randbytes(generator.randint(1, 300)),
        )
    )
    return line + b"\r\nhost: x\r\n\r\n"


def _cut_off(generator: random.Random) -> bytes:
    """Any of the others, ended too early."""
    whole = generator.choice(_KINDS[:-2])(generator)
    return whole[: generator.randrange(len(whole))]


def _several(generator: random.Random) -> bytes:
    """Some in a row without waiting for answers."""
    return b"".join(generator.choice(_KINDS[:-2])(generator) for _ in range(generator.randint(2, 4)))


_KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    _wrong_values,
    _changed_bytes,
    _nested,
    _lying_length,
    _chunked,
    _odd_heads,
    _odd_lines,
    _cut_off,
    _several,
)
