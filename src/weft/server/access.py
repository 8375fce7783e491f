"""Who may use the API: keys from a file, and pages of this server alone."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from weft.errors import ConfigError
from weft.server.errors import ApiError


def read_keys(path: str) -> tuple[bytes, ...]:
    """Digests of the keys in a file, one a line; # begins a comment. Raises ConfigError, OSError."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ConfigError(f"Expected a key on a line of {path}, got none; write one.")
    return tuple(_digest(key.encode()) for key in keys)


def check_key(headers: Headers, keys: tuple[bytes, ...]) -> None:
    """Raises ApiError unless the request has one of `keys`; takes the same time for any other key."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    given = _digest(key.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b"")
    matches = [hmac.compare_digest(given, known) for known in keys]
    if not any(matches):
        raise ApiError(
            401,
            "Expected an API key of this server, got none or another; send `Authorization: Bearer KEY`.",
            kind="authentication_error",
            code="invalid_api_key",
        )


def check_origin(headers: Headers, allowed: str | None) -> None:
    """Raises ApiError for a request that a page of another origin made a browser send."""
    origin = headers.get("origin")
    if origin is None or origin == allowed:
        return
    if _host_of(origin) != headers.get("host", ""):
        raise ApiError(
            403,
            f"Expected a page of this server, got one of {origin[:200]!r}; start it with --cors-origin.",
            kind="permission_error",
            code="origin_not_allowed",
        )


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # no address, such as http://[::1
        return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
