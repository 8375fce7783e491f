"""Requests of a batch, read one by one from a file: what cannot be read is a request with a problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from weft.batch.config import BatchConfig
from weft.batch.lines import MAX_LINE_BYTES, read_lines
from weft.batch.table import read_rows
from weft.batch.template import text_of
from weft.errors import DataError, WeftError
from weft.server.body import decode
from weft.server.errors import ApiError, of_weft

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class BatchRequest:
    """A request: its own name, the endpoint's path and the body as JSON; or what is wrong with it."""

    custom_id: str | None
    url: str = ""
    body: bytes | Raw = b""
    problem: ApiError | None = None


class _Line(Struct, forbid_unknown_fields=True, kw_only=True):
    """A line of OpenAI's batch format."""

    custom_id: str
    method: str
    url: str
    body: Raw


class _NamedLine(Struct):
    """Of a line that is wrong, what says which it is."""

    custom_id: str | None = None


_LINE = msgspec.json.Decoder(_Line)
_NAMED_LINE = msgspec.json.Decoder(_NamedLine)


def read_requests(path: Path, config: BatchConfig) -> Iterator[BatchRequest]:
    """The requests of a file in their order. Raises DataError for a file that is none, OSError."""
    seen: set[str] = set()
    for request in _of_table(path, config) if config.is_table else _of_lines(path):
        if request.custom_id is not None and request.custom_id in seen:
            problem = _bad(
                f"Expected a custom_id of its own, got {request.custom_id[:80]!r} again; rename one.",
                "custom_id",
            )
            yield BatchRequest(request.custom_id, problem=problem)
            continue
        if request.custom_id is not None:
            seen.add(request.custom_id)
        yield request


def count_requests(path: Path, config: BatchConfig) -> int:
    """Requests in the file. Raises as `read_requests` does."""
    if config.is_table:
        return sum(1 for _ in read_rows(path))
    with path.open("rb") as file:
        return sum(1 for _ in read_lines(file))


def _of_lines(path: Path) -> Iterator[BatchRequest]:
    with path.open("rb") as file:
        for line in read_lines(file):
            if line is None:
                problem = _bad(f"Expected a line of at most {MAX_LINE_BYTES} bytes, got more; shorten it.")
                yield BatchRequest(None, problem=problem)
            else:
                yield _of_line(line)


def _of_line(line: bytes) -> BatchRequest:
    try:
        request = decode(_LINE, line)
    except ApiError as error:
        return BatchRequest(_name_of(line), problem=error)
    if request.method.upper() != "POST":
        problem = _bad(f"Expected the method POST, got {request.method[:20]!r}; change it.", "method")
        return BatchRequest(request.custom_id, problem=problem)
    if request.url not in (CHAT, COMPLETIONS):
        problem = _bad(
            f"Expected the url {CHAT} or {COMPLETIONS}, got {request.url[:80]!r}; change it.", "url"
        )
        return BatchRequest(request.custom_id, problem=problem)
    return BatchRequest(request.custom_id, request.url, request.body)


def _name_of(line: bytes) -> str | None:
    try:
        return _NAMED_LINE.decode(line).custom_id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _of_table(path: Path, config: BatchConfig) -> Iterator[BatchRequest]:
    template = config.prompt_template()
    for number, row in enumerate(read_rows(path), start=1):
        name = f"row-{number}"
        try:
            if isinstance(row, DataError):
                raise row
            if config.id_column is not None:
                name = text_of(row, config.id_column)
            yield _of_prompt(name, template.fill(row), config)
        except WeftError as error:
            yield BatchRequest(name, problem=of_weft(error))


def _of_prompt(name: str, prompt: str, config: BatchConfig) -> BatchRequest:
    if config.raw:
        return BatchRequest(name, COMPLETIONS, _json({"prompt": prompt}))
    system = [{"role": "system", "content": config.system}] if config.system is not None else []
    return BatchRequest(name, CHAT, _json({"messages": [*system, {"role": "user", "content": prompt}]}))


def _json(content: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(content)
    except UnicodeEncodeError as error:
        raise DataError(f"Expected text in UTF-8, got other bytes ({error.reason}); convert it.") from error


def _bad(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, code="invalid_value", param=param)
