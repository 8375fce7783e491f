"""Tables of numbers, for models over vectors: CSV, Parquet, and NumPy's NPZ archives."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weft.errors import ConfigError, DataError, UnsupportedError
from weft.train.data.files import DataFile
from weft.train.data.read_text import decode
from weft.types import Array

FORMATS = (".csv", ".parquet", ".npz")
_NPZ_COLUMNS = ("x",), ("y",)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are inputs, and which targets: names, or one number, of the first columns or
    of the last. No inputs: all columns but the targets. No targets: none are read.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class VectorTable:
    """x float32 [rows, inputs] and y float32 [rows, targets], with the names of their columns."""

    x: Array
    y: Array
    inputs: tuple[str, ...]
    targets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)


def read_vectors(files: Sequence[DataFile], columns: Columns) -> VectorTable:
    """The tables in `files`, of the same columns, one after another.

    Raises DataError for a file of another kind, for columns that are not there and for what is not a finite
    number, with its place.
    """
    tables = [_choose(file, columns, *_read(file)) for file in files]
    first = tables[0]
    for file, table in zip(files, tables, strict=True):
        if (table.inputs, table.targets) != (first.inputs, first.targets):
            raise DataError(
                f"{file.path}: expected the columns {_listed(first.inputs + first.targets)} as in "
                f"{files[0].path}, got {_listed(table.inputs + table.targets)}; give tables of one kind."
            )
    x, y = (np.concatenate([getattr(table, part) for table in tables]) for part in "xy")
    if not len(x):
        raise DataError(f"{files[0].path}: expected rows of numbers, got none; give more data.")
    return VectorTable(x, y, first.inputs, first.targets)


def _read(file: DataFile) -> tuple[list[str], Array]:
    """Names of the columns, and their values float32 [rows, columns]."""
    match file.format:
        case ".csv":
            return _read_csv(file)
        case ".parquet":
            return _read_parquet(file)
        case ".npz":
            return _read_npz(file)
    raise DataError(
        f"{file.path}: expected a table of numbers ({', '.join(FORMATS)}), got another file; convert it."
    )


def _read_csv(file: DataFile) -> tuple[list[str], Array]:
    """The first line names the columns, unless it is numbers itself: then they are called c1, c2, c3..."""
    reader = csv.reader(io.StringIO(decode(file.read(), str(file.path)), newline=""), strict=True)
    names: list[str] = []
    rows: list[list[float]] = []
    try:
        for fields in reader:
            if not fields:
                continue
            if not names:
                if not all(_is_number(field) for field in fields):
                    names = [field.strip() for field in fields]
                    continue
                names = [f"c{number + 1}" for number in range(len(fields))]
            rows.append(_numbers(fields, names, f"{file.path}, line {reader.line_num}"))
    except csv.Error as error:
        raise DataError(
            f"{file.path}, line {reader.line_num}: expected comma-separated values, got: {error}; correct it."
        ) from error
    if not names:
        raise DataError(f"{file.path}: expected rows of numbers, got an empty file; give another one.")
    return names, np.array(rows, np.float32).reshape(-1, len(names))


def _numbers(fields: list[str], names: list[str], place: str) -> list[float]:
    if len(fields) != len(names):
        raise DataError(f"{place}: expected {len(names)} columns, got {len(fields)}; correct the line.")
    for name, field in zip(names, fields, strict=True):
        if not _is_number(field):
            raise DataError(f"{place}: expected a number for {name!r}, got {field[:40]!r}; correct it.")
    return [float(field) for field in fields]


def _is_number(field: str) -> bool:
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False


def _read_parquet(file: DataFile) -> tuple[list[str], Array]:
    try:
        from pyarrow import ArrowException, BufferReader, parquet
    except ImportError as error:
        raise UnsupportedError(
            f"{file.path}: expected pyarrow for Parquet files, got none; pip install 'weft[parquet]'."
        ) from error
    try:
        table = parquet.read_table(BufferReader(file.read()))
    except ArrowException as error:
        raise DataError(f"{file.path}: expected a Parquet file, got: {error}; write it again.") from error
    names = list(table.column_names)
    columns = [table.column(name).to_numpy() for name in names]
    return _joined(file, {name: column for name, column in zip(names, columns, strict=True)})


def _read_npz(file: DataFile) -> tuple[list[str], Array]:
    """Arrays [rows] are columns of their names; arrays [rows, n] are columns NAME.0, NAME.1..."""
    try:
        with np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{file.path}: expected an NPZ archive of plain arrays, got: {error}; save it with np.savez."
        ) from error
    columns = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        elif array.ndim == 2:
            columns |= {f"{name}.{number}": array[:, number] for number in range(array.shape[1])}
        else:
            raise DataError(
                f"{file.path}: expected arrays [rows] or [rows, columns], got {name} {array.shape}; "
                "reshape it."
            )
    return _joined(file, columns)


def _joined(file: DataFile, columns: dict[str, Array]) -> tuple[list[str], Array]:
    if len({len(column) for column in columns.values()}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in list(columns.items())[:6])
        raise DataError(f"{file.path}: expected columns of one length, got {sizes}; cut them alike.")
    for name, column in columns.items():
        if column.dtype.kind not in "fiub" or not np.isfinite(column).all():
            raise DataError(
                f"{file.path}: expected finite numbers in {name!r}, got others ({column.dtype}); correct it."
            )
    if not columns:
        raise DataError(f"{file.path}: expected columns of numbers, got none; give another file.")
    return list(columns), np.stack([column.astype(np.float32) for column in columns.values()], axis=1)


def _choose(file: DataFile, columns: Columns, names: list[str], values: Array) -> VectorTable:
    inputs, targets = columns.inputs, columns.targets
    if file.format == ".npz" and not inputs and not targets:
        inputs, targets = _NPZ_COLUMNS
    wanted = _places(file, targets, names, from_end=True)
    given = _places(file, inputs, names) if inputs else [n for n in range(len(names)) if n not in wanted]
    if shared := sorted(set(given) & set(wanted)):
        raise ConfigError(
            f"{file.path}: expected columns that are inputs or targets, got {names[shared[0]]!r} as both; "
            "leave it out of one."
        )
    if not given:
        raise DataError(f"{file.path}: expected columns besides the targets, got none; add inputs.")
    x, y = (np.ascontiguousarray(values[:, places]) for places in (given, wanted))
    return VectorTable(x, y, tuple(names[n] for n in given), tuple(names[n] for n in wanted))


def _places(file: DataFile, wanted: tuple[str, ...], names: list[str], from_end: bool = False) -> list[int]:
    """Where the columns `wanted` are. The name of a two-dimensional array is all of its columns."""
    if len(wanted) == 1 and wanted[0].isdecimal() and wanted[0] not in names:
        count = int(wanted[0])
        if not 1 <= count <= len(names):
            raise ConfigError(
                f"{file.path}: expected from 1 to {len(names)} columns, got {count}; the file has no more."
            )
        return list(range(len(names)))[-count:] if from_end else list(range(count))
    places = []
    for name in wanted:
        found = [n for n, known in enumerate(names) if known == name]
        found = found or [n for n, known in enumerate(names) if known.rsplit(".", 1)[0] == name]
        if not found:
            raise DataError(
                f"{file.path}: expected a column {name!r}, got {_listed(tuple(names))}; correct its name."
            )
        places += found
    return places


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
