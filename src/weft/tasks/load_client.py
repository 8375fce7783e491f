"""One streamed completion from a server of OpenAI's API, and when each of its pieces came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from weft.errors import ConfigError

_LINE_LIMIT = 1 << 20


@dataclass(frozen=True)
class Target:
    """A server: where it is, and what requests bring. `base` is the path before /v1."""

    host: str
    port: int
    base: str = ""
    secure: bool = False
    api_key: str | None = None

    @classmethod
    def of(cls, url: str, api_key: str | None = None) -> Target:
        """The server at `url`, with or without /v1. Raises ConfigError."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ConfigError(f"Expected a server's URL, got {url!r} ({error}); correct it.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"Expected a URL such as http://127.0.0.1:8000, got {url!r}; correct it.")
        base = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, port, base, parts.scheme == "https", api_key)


@dataclass
class Outcome:
    """What became of a request; times in seconds since it was sent.

    pieces: when each piece of text came. tokens: of the answer, as the server counts them, or else pieces.
    failure: why there is no whole answer.
    """

    sent_at: float
    pieces: list[float] = field(default_factory=list)
    ended: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0
    failure: str | None = None

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces that follow each other."""
        return [later - earlier for earlier, later in zip(self.pieces, self.pieces[1:], strict=False)]


async def complete(target: Target, body: Mapping[str, Any], time_limit_s: float) -> Outcome:
    """Sends a request for a streamed completion and reads it to its end; a failure is in the outcome."""
    outcome = Outcome(time.perf_counter())
    try:
        async with asyncio.timeout(time_limit_s):
            await _read_all(target, body, outcome)
    except TimeoutError:
        outcome.failure = "time limit"
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        outcome.failure = f"{type(error).__name__}: {error}"[:200]
    outcome.ended = time.perf_counter() - outcome.sent_at
    if outcome.failure is None and not outcome.pieces:
        outcome.failure = "no text"
    outcome.tokens = outcome.tokens or len(outcome.pieces)
    return outcome


async def fetch(target: Target, path: str) -> Any:
    """The JSON that a GET of `path` gives. Raises OSError, ValueError."""
    reader, writer = await _connect(target, "GET", path, b"")
    try:
        status, headers = await _head(reader)
        content = b"".join([part async for part in _body(reader, headers)])
    finally:
        writer.close()
    if status != 200:
        raise ValueError(f"status {status}")
    return json.loads(content)


async def _read_all(target: Target, body: Mapping[str, Any], outcome: Outcome) -> None:
    reader, writer = await _connect(target, "POST", "/v1/completions", json.dumps(body).encode())
    try:
        status, headers = await _head(reader)
        if status != 200:
            content = b"".join([part async for part in _body(reader, headers)])
            outcome.failure = f"status {status}: {_message(content)}"
            return
        rest = b""
        async for part in _body(reader, headers):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                _note(line.strip(), outcome)
    finally:
        writer.close()


def _note(line: bytes, outcome: Outcome) -> None:
    if not line.startswith(b"data:") or line.endswith(b"[DONE]"):
        return
    event = json.loads(line[5:])
    if "error" in event:
        outcome.failure = _message(line[5:])
    if usage := event.get("usage"):
        outcome.prompt_tokens = usage.get("prompt_tokens", 0)
        outcome.tokens = usage.get("completion_tokens", 0)
    if any(choice.get("text") for choice in event.get("choices") or ()):
        outcome.pieces.append(time.perf_counter() - outcome.sent_at)


async def _connect(
    target: Target, method: str, path: str, body: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=target.secure or None, limit=_LINE_LIMIT
    )
    key = f"authorization: Bearer {target.api_key}\r\n" if target.api_key else ""
    writer.write(
        f"{method} {target.base}{path} HTTP/1.1\r\nhost: {target.host}:{target.port}\r\n{key}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    return reader, writer


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ", 2)[1]), headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The parts of a body as they come: of a known length, chunked, or up to the connection's end."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while part := await reader.read(_LINE_LIMIT):
            yield part


def _message(content: bytes) -> str:
    try:
        error = json.loads(content)["error"]
        return str(error.get("message", error) if isinstance(error, dict) else error)[:200]
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace")
