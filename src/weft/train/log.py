"""log.jsonl: one line a step, cut back to a checkpoint when a run is resumed from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from weft.errors import TrainingError
from weft.io.atomic_file import write_atomically


class StepLog:
    """Appends a line for each step. For one thread."""

    def __init__(self, path: Path, resume_step: int) -> None:
        """Opens the log at `path`, with the lines of the first `resume_step` steps kept."""
        kept = [line for line in read_log(path) if line["step"] <= resume_step] if resume_step else []
        try:
            write_atomically(path, "".join(_encoded(line) for line in kept).encode())
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open until close()
        except OSError as error:
            raise _not_written(path, error) from error
        self.path = path

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line at once. Raises TrainingError when it cannot be written."""
        try:
            self._file.write(_encoded(line))
            self._file.flush()
        except OSError as error:
            raise _not_written(self.path, error) from error

    def close(self) -> None:
        """Closes the file. A second call does nothing."""
        try:
            self._file.close()
        except OSError as error:
            raise _not_written(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; one that a killed run left half written is passed over."""
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in content.split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            yield record


def _encoded(line: Mapping[str, Any]) -> str:
    plain = {key: _plain(value) for key, value in line.items() if value is not None}
    return json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it: it knows no infinity, and needs no more than seven digits."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _not_written(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"{path}: expected to write the log, got: {error.strerror}; make room or correct its permissions, "
        "then resume."
    )
