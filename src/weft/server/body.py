"""Bodies of requests: read up to a limit, in time, and checked against what the endpoint takes."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request

from weft.server.errors import ApiError, of_validation

READ_TIMEOUT_S = 30.0
# A body too large is read on up to this many times the limit, and dropped: many clients see the answer only
# after they have sent everything.
_DISCARDED = 4
_INLINE_BYTES = 1 << 16  # larger bodies are decoded on another thread, so that the loop goes on

T = TypeVar("T")


async def read_struct(request: Request, decoder: msgspec.json.Decoder[T], max_bytes: int) -> T:
    """The body as a struct. Raises ApiError: 400, 408, 413, 415."""
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415, f"Expected a body of content-type application/json, got {kind[:80]!r}; set the header."
        )
    body = await _read(request, max_bytes)
    if len(body) <= _INLINE_BYTES:
        return decode(decoder, body)
    return await asyncio.to_thread(decode, decoder, body)


async def _read(request: Request, max_bytes: int) -> bytes:
    parts, length = [], 0
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            async for part in request.stream():
                length += len(part)
                if length <= max_bytes:
                    parts.append(part)
                elif length > _DISCARDED * max_bytes:
                    break
    except TimeoutError:
        raise ApiError(
            408, f"Expected the whole body within {READ_TIMEOUT_S:.0f} s, got a part; send it faster."
        ) from None
    if length > max_bytes:
        raise ApiError(
            413, f"Expected a body of at most {max_bytes} bytes, got more; send less.", code="body_too_large"
        )
    return b"".join(parts)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """`body` as a struct. Raises ApiError with status 400."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise of_validation(error) from None
