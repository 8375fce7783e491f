"""Requests that are refused before the application sees them: which, and what they are told."""

from __future__ import annotations

import re

import msgspec

from weft.server.errors import ApiError

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_OF_A_PAGE = re.compile(rb"\r\norigin:", re.IGNORECASE)


def answer_of(error: ApiError) -> bytes:
    """The whole answer to one of too many, after which the connection ends."""
    assert error.status == 429
    content = msgspec.json.encode(error.content)
    head = (
        "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-type: application/json\r\n"
        f"retry-after: {error.retry_after_s}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def is_whole(data: bytes) -> bool:
    """Whether `data` is a request to its end, so that nothing of it is still to come."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(end) and not _CHUNKED.search(head) and len(body) >= (int(length[1]) if length else 0)


def asks_for_answers(data: bytes, starts: tuple[bytes, ...]) -> bool:
    """Whether `data` is a request that would wait in the queue: it begins as one of `starts` does.

    Not one of a page, which has to be told whether it may read the answer: the application does that.
    """
    head, end, _ = data.partition(b"\r\n\r\n")
    return bool(end) and head.startswith(starts) and not _OF_A_PAGE.search(head)
