"""JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from weft.errors import DataError
from weft.train.data.files import DataFile
from weft.train.data.read_text import read_lines


def read_jsonl(file: DataFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and record of each line that is not blank. Raises DataError with the line that is not JSON."""
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        place = f"{file.path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{place}: expected a JSON object, got {line.strip()[:40]!r} ({error}); correct the line."
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: expected a JSON object, got {line.strip()[:40]!r}; correct the line.")
        yield place, record
