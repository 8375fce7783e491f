"""Rows of tables, one by one: CSV, JSON lines, Parquet. A row that cannot be read comes as its error."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from weft.batch.lines import read_lines
from weft.errors import DataError

Row = dict[str, Any]
_FIELD_LIMIT = 1 << 26
_FORMATS = (".csv", ".jsonl", ".parquet")


def read_rows(path: Path) -> Iterator[Row | DataError]:
    """The rows of a table in their order. Raises DataError for a file of another kind, OSError."""
    match path.suffix.lower():
        case ".csv":
            yield from _csv_rows(path)
        case ".jsonl":
            yield from _json_rows(path)
        case ".parquet":
            yield from _parquet_rows(path)
        case suffix:
            came = suffix or "a name without one"
            raise DataError(
                f"{path}: expected one of {', '.join(_FORMATS)}, got {came}; convert or rename it."
            )


def _csv_rows(path: Path) -> Iterator[Row | DataError]:
    # The module's own limit is for all of the process, and below a document's length.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield DataError(
                    f"Expected comma-separated values, got: {error}; correct line {rows.line_num}."
                )
                continue
            if None in row or None in row.values():
                yield DataError(
                    f"Expected {len(rows.fieldnames or ())} columns as in the first line, got others; "
                    f"quote fields that hold commas in line {rows.line_num}."
                )
            else:
                yield row


def _json_rows(path: Path) -> Iterator[Row | DataError]:
    with path.open("rb") as file:
        for line in read_lines(file):
            try:
                row = msgspec.json.decode(line or b"")
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                yield DataError(
                    f"Expected a JSON object, got {(line or b'')[:40]!r} ({error}); correct the line."
                )
                continue
            if isinstance(row, dict):
                yield row
            else:
                yield DataError(f"Expected a JSON object, got {(line or b'')[:40]!r}; correct the line.")


def _parquet_rows(path: Path) -> Iterator[Row]:
    from weft.train.data.files import DataFile
    from weft.train.data.read_table import read_parquet

    for _, row in read_parquet(DataFile(path, ".parquet")):
        yield row
