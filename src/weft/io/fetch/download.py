"""Downloads that end in a whole, verified file or in none: resumed when they break off, renamed when done."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.atomic_file import sync_folder
from weft.io.json_file import MAX_JSON_BYTES, parse_json_object

# Called with the file's name, the bytes that are there, and how many there will be (None: not known).
Progress = Callable[[str, int, int | None], None]

_ATTEMPTS = 5
_TIMEOUT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_CHUNK_BYTES = 1 << 20
_USER_AGENT = "weft"


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch. `digest` is (algorithm, hexadecimal) of its content, `size` its bytes, where known.

    `headers` are sent to the first address only, never to one that it redirects to (they hold secrets).
    """

    url: str
    size: int | None = None
    digest: tuple[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _BrokenOff(Exception):
    """The transfer ended early; what came is kept."""


def download(remote: RemoteFile, target: Path, progress: Progress | None = None) -> None:
    """Make `target` the content of `remote`. A part that an earlier call left is continued.

    Raises ModelNotFoundError when the address has nothing or cannot be reached, ModelFileError when what
    came is not what was promised or cannot be stored.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        _fetch_all(remote, part, target.name, progress)
        if not _is_as_promised(remote, part):
            # A part of another state of the file may have been continued: once more from the start.
            _forget(part)
            _fetch_all(remote, part, target.name, progress)
            if not _is_as_promised(remote, part):
                _forget(part)
                raise ModelFileError(f"{remote.url} gives other content than it promised: try again later")
        os.replace(part, target)
    except OSError as error:
        raise ModelFileError(f"{target} cannot be written: {error.strerror or error}") from error
    _etag_file(part).unlink(missing_ok=True)
    sync_folder(target.parent)


def fetch_json(url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object at `url`. Raises ModelNotFoundError, ModelFileError."""
    try:
        with _open(url, headers or {}, {}) as response:
            raw = response.read(MAX_JSON_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ModelNotFoundError(f"{url} cannot be reached: {error}; check the network") from error
    if len(raw) > MAX_JSON_BYTES:
        raise ModelFileError(f"{url} gives more than {MAX_JSON_BYTES} bytes, a short answer was expected")
    return parse_json_object(raw, url)


def _fetch_all(remote: RemoteFile, part: Path, name: str, progress: Progress | None) -> None:
    """Fetch until the whole file is there; attempts that bring nothing new are counted."""
    pause, fruitless = _FIRST_PAUSE_SECONDS, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch(remote, part, name, progress)
            return
        except _BrokenOff as error:
            fruitless = 0 if part.exists() and part.stat().st_size > before else fruitless + 1
            if fruitless >= _ATTEMPTS:
                raise ModelNotFoundError(
                    f"{remote.url} breaks off again and again ({error}): check the network and call again, "
                    "what has come is kept"
                ) from error
        time.sleep(pause if fruitless else 0.0)
        pause = min(2 * pause, 8.0)


def _fetch(remote: RemoteFile, part: Path, name: str, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if remote.size is not None and have == remote.size:
        return
    if remote.size is not None and have > remote.size:
        _forget(part)
        have = 0
    try:
        with _open(remote.url, remote.headers, _range_headers(remote, part, have)) as response:
            continued = response.status == 206 and _starts_at(response, have)
            total = _total_size(remote, response, have if continued else 0)
            _check_space(part, (total or 0) - (have if continued else 0))
            _remember_etag(part, response.headers.get("ETag"))
            _receive(response, part, have if continued else 0, total, name, progress)
    except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise _BrokenOff(str(error) or type(error).__name__) from error


def _receive(
    response: Any, part: Path, start: int, total: int | None, name: str, progress: Progress | None
) -> None:
    received = start
    with open(part, "r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        while chunk := response.read(_CHUNK_BYTES):
            received += len(chunk)
            if total is not None and received > total:
                raise ModelFileError(f"{name}: more than the {total} bytes that were promised came: refused")
            file.write(chunk)
            if progress is not None:
                progress(name, received, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and received < total:
        raise _BrokenOff(f"{received} of {total} bytes came")


def _open(url: str, secret_headers: Mapping[str, str], headers: Mapping[str, str]) -> Any:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ModelNotFoundError(f"{url}: an http or https address was expected")
    request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT, **headers})
    for key, value in secret_headers.items():
        request.add_unredirected_header(key, value)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 or error.code == 429 or error.code >= 500:
                raise _refused(url, error) from error
        raise ModelNotFoundError(
            f"{url} answers {error.code} {error.reason}: {_what_to_do(error.code)}"
        ) from error


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    return ConnectionError(f"{url} answers {error.code} {error.reason}")


def _what_to_do(code: int) -> str:
    if code in (401, 403):
        return "it needs permission; accept the model's terms and set HF_TOKEN"
    return "check the name and the version"


def _range_headers(remote: RemoteFile, part: Path, have: int) -> dict[str, str]:
    """Ask for the rest only where a mix of two states of the file would be noticed."""
    etag = _etag_file(part).read_text() if _etag_file(part).exists() else ""
    if have == 0 or not (etag or remote.digest):
        return {}
    return {"Range": f"bytes={have}-"} | ({"If-Range": etag} if etag else {})


def _starts_at(response: Any, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _total_size(remote: RemoteFile, response: Any, start: int) -> int | None:
    length = str(response.headers.get("Content-Length") or "")
    total = start + int(length) if length.isdecimal() and len(length) < 20 else None
    if remote.size is not None and total is not None and total != remote.size:
        raise ModelFileError(f"{remote.url} has {total} bytes, {remote.size} were promised: try again later")
    return remote.size if remote.size is not None else total


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise ModelFileError(
            f"{part.parent} has {free >> 20} MiB free, the download needs {needed >> 20}: "
            "make room or set WEFT_HOME"
        )


def _is_as_promised(remote: RemoteFile, part: Path) -> bool:
    if remote.size is not None and part.stat().st_size != remote.size:
        return False
    return remote.digest is None or file_digest(part, remote.digest[0]) == remote.digest[1].lower()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _remember_etag(part: Path, etag: str | None) -> None:
    # A weak tag promises equal meaning, not equal bytes.
    if etag and not etag.startswith("W/") and len(etag) < 1000:
        _etag_file(part).write_text(etag)
    else:
        _etag_file(part).unlink(missing_ok=True)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)
