"""Tables: CSV by Python's own reader, Parquet by pyarrow where it is installed. A row is a record."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from weft.errors import DataError, UnsupportedError
from weft.train.data.files import DataFile
from weft.train.data.read_text import read_lines

_FIELD_LIMIT = 1 << 28
_BARE_RETURN = re.compile(r"(?<=\r)(?!\n|\Z)")  # ends a line in files of old spreadsheets


def read_csv(file: DataFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and record of each row; the first line names the columns. Raises DataError with the line."""
    # The module's own limit is for all of the process, and far below a document's length.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    lines = (part for line in read_lines(file) for part in _BARE_RETURN.split(line))
    rows = csv.DictReader(lines, strict=True)
    try:
        for row in rows:
            place = f"{file.path}, line {rows.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    f"{place}: expected {len(rows.fieldnames or ())} columns as in the first line, got "
                    "another number; quote fields that hold commas."
                )
            yield place, row
    except csv.Error as error:
        raise DataError(
            f"{file.path}, line {rows.line_num}: expected comma-separated values, got: {error}; correct it."
        ) from error


def read_parquet(file: DataFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and record of each row. Raises UnsupportedError without pyarrow, DataError for another file."""
    try:
        from pyarrow import ArrowException, BufferReader, parquet
    except ImportError as error:
        raise UnsupportedError(
            f"{file.path}: expected pyarrow for Parquet files, got none; pip install 'weft[parquet]'."
        ) from error
    try:
        table = parquet.ParquetFile(BufferReader(file.read()))
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{file.path}, row {number}", row
    except ArrowException as error:
        raise DataError(f"{file.path}: expected a Parquet file, got: {error}; write it again.") from error
