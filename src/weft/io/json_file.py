"""JSON from files that are not trusted: bounded in size, nesting and number of values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from weft.errors import ModelFileError, ModelNotFoundError

MAX_JSON_BYTES = 64 << 20


def parse_json_object(
    raw: bytes, name: str, *, max_values: int = 1 << 22, error: type[ModelFileError] = ModelFileError
) -> dict[str, Any]:
    """The JSON object in `raw`; `name` is used in messages.

    Refused with ModelFileError: what is not UTF-8 JSON, another value than an object, a key that is twice in
    one object, deep nesting, and more than about `max_values` values (each costs far more memory than text).
    """
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > max_values:
        raise error(
            f"{name}: at most {max_values} JSON values were expected, there are more: the file is damaged"
        )
    try:
        value = json.loads(str(raw, "utf-8"), object_pairs_hook=_object_of_distinct_keys)
    except RecursionError as cause:
        raise error(f"{name}: JSON is nested too deeply: the file is damaged") from cause
    except ValueError as cause:
        raise error(f"{name} is not valid JSON ({cause}): download or copy it again") from cause
    if not isinstance(value, dict):
        raise error(f"{name}: a JSON object was expected, a {type(value).__name__} came")
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`. Raises ModelNotFoundError, ModelFileError."""
    return parse_json_object(read_bounded(path, MAX_JSON_BYTES), str(path))


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes. Raises ModelNotFoundError, ModelFileError."""
    try:
        if not path.is_file():
            raise ModelNotFoundError(f"{path} does not exist or is not a file: check the path")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ModelFileError(f"{path} is larger than {limit} bytes, the most that weft reads of such a file")
    return content


def _object_of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key is there twice")
    return entries
