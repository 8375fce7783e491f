"""What results were made from, kept beside them, so that a run that continues them can tell a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.errors import BatchError
from weft.io.atomic_file import write_atomically
from weft.io.json_file import read_json_object

_INPUT = ("input_bytes", "input_sha256")
_CHUNK_BYTES = 1 << 20


def origin_path(results: Path) -> Path:
    """Where the origin of the results at `results` is kept."""
    return results.with_name(f".{results.name}.origin.json")


def write_origin(results: Path, settings: Mapping[str, Any], requests: Path) -> None:
    """Keeps what the results are to be made from. Raises OSError."""
    size = requests.stat().st_size
    known = {**settings, "input_bytes": size, "input_sha256": _digest(requests, size)}
    write_atomically(origin_path(results), (json.dumps(known, indent=2) + "\n").encode())


def check_origin(results: Path, settings: Mapping[str, Any], requests: Path) -> None:
    """Raises BatchError, with what has changed, unless the results at `results` were made from the same.

    The input may have grown at its end.
    """
    way_out = "begin anew with --restart, or write elsewhere"
    known = read_json_object(origin_path(results))
    size = known.get("input_bytes")
    if type(size) is not int or _digest(requests, size) != known.get("input_sha256"):
        raise BatchError(
            f"{requests}: expected the input that {results} was begun with, got other content; {way_out}."
        )
    before = {name: value for name, value in known.items() if name not in _INPUT}
    now = json.loads(json.dumps(settings))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        told = ", ".join(
            f"{name} {_short(now.get(name))} (was {_short(before.get(name))})" for name in changed
        )
        raise BatchError(f"{results}: expected the settings that it was begun with, got {told}; {way_out}.")


def folder_digest(folder: Path) -> str:
    """A name for the contents of the files in `folder`, such as an adapter's. Raises OSError."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        digest.update(f"{file.name}\0{_digest(file, file.stat().st_size)}\0".encode())
    return digest.hexdigest()[:32]


def _digest(path: Path, size: int) -> str | None:
    """Of the first `size` bytes of a file; None where it has fewer."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
            digest.update(chunk)
            size -= len(chunk)
    return None if size else digest.hexdigest()


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if value is not None else "none"
    return text if len(text) <= 60 else text[:57] + "..."
