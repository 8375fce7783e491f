"""Which files the data of a run are: files, folders, globs, stdin, or Python's own sources."""

from __future__ import annotations

import glob
import io
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from weft.errors import DataError
from weft.io.atomic_file import write_atomically

SPLITS = ("train", "valid", "test")
SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
STDIN = "-"
STDLIB = "stdlib"
_FORMS = "a file, a folder, a glob such as 'books/*.txt', - for stdin, or stdlib for Python's own sources"


@dataclass(frozen=True)
class DataFile:
    """One file to read: its path, or its content where it came on stdin.

    `format` is the suffix of its kind, such as ".jsonl". A `lenient` file that is not UTF-8 is left out
    rather than refused.
    """

    path: Path
    format: str
    content: bytes | None = None
    lenient: bool = False

    def read(self) -> bytes:
        """Its bytes. Raises DataError when it cannot be read."""
        with self.open() as stream:
            return stream.read()

    def open(self) -> BinaryIO:
        """Its bytes as a stream, to be closed. Raises DataError when it cannot be read."""
        if self.content is not None:
            return io.BytesIO(self.content)
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise DataError(
                f"{self.path}: expected a readable file, got: {error.strerror}; check its permissions."
            ) from error


@dataclass
class DataFiles:
    """The files of each split, in a fixed order. Only `train` is filled where the data has no splits."""

    train: list[DataFile] = field(default_factory=list)
    valid: list[DataFile] = field(default_factory=list)
    test: list[DataFile] = field(default_factory=list)


def find_files(data: Sequence[str], keep: Path | None = None, is_new: bool = False) -> DataFiles:
    """The files that `data` names, each a path, a glob, "-" or "stdlib".

    keep: a folder that holds what came on stdin, for the next time, unless the run there `is_new`: then what
    an earlier try left is not looked at.

    A folder with train.jsonl (or .txt, .csv, .parquet) gives its splits, any other one all files under it
    that weft reads, but for hidden ones and what runs wrote there. Raises DataError when something is not
    there, empty, or of another kind.
    """
    if not data:
        raise DataError(f"Expected data to train on, got none; pass --data with {_FORMS}.")
    files = DataFiles()
    for name in data:
        _add(files, name, keep, is_new)
    return files


def _add(files: DataFiles, name: str, keep: Path | None, is_new: bool) -> None:
    if name == STDIN:
        files.train.append(_standard_input(keep, is_new))
    elif name == STDLIB and not Path(name).exists():
        files.train += standard_library()
    elif Path(name).is_dir():
        _add_folder(files, Path(name))
    elif Path(name).is_file():
        files.train.append(_file(Path(name)))
    elif Path(name).exists():
        raise DataError(f"{name}: expected a file or a folder, got a device or pipe; pipe it to --data -.")
    elif any(mark in name for mark in "*?["):
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        if not (found := [_file(path) for path in matches if path.is_file()]):
            raise DataError(f"Expected files that match {name!r}, got none; check the pattern.")
        files.train += found
    else:
        raise DataError(f"Expected data at {name!r}, got no such file; pass {_FORMS}.")


def _add_folder(files: DataFiles, folder: Path) -> None:
    splits = {split: _split_file(folder, split) for split in SPLITS}
    if splits["train"] is not None:
        for split, file in splits.items():
            if file is not None:
                getattr(files, split).append(file)
        return
    found = sorted(_readable(folder))
    if not found:
        raise DataError(
            f"{folder}: expected files of {', '.join(SUFFIXES)} in the folder, got none; name another one."
        )
    files.train += [_file(path) for path in found]


def _readable(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_run(here / name)]
        for path in (here / name for name in names if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _is_run(folder: Path) -> bool:
    """Whether a run was begun there: its log is no text to learn."""
    return (folder / "config.yaml").is_file() and any(
        (folder / name).is_file() for name in ("log.jsonl", ".lock")
    )


def _split_file(folder: Path, split: str) -> DataFile | None:
    paths = [folder / f"{split}{suffix}" for suffix in (".jsonl", ".txt", ".csv", ".parquet", ".npz")]
    return next((_file(path) for path in paths if path.is_file()), None)


def _file(path: Path) -> DataFile:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".csv", ".parquet", ".npz"):
        return DataFile(path, suffix)
    if suffix in (".json", ".gz", ".zip", ".zst", ".bz2", ".xz", ".pdf", ".docx", ".bin", ".safetensors"):
        raise DataError(f"{path}: expected one of {', '.join(SUFFIXES)}, got {suffix}; convert or unpack it.")
    # A file that was named is text, whatever its suffix: sources, Markdown.
    return DataFile(path, ".txt")


def _standard_input(keep: Path | None, is_new: bool) -> DataFile:
    for kept in () if keep is None else (keep / "stdin.txt", keep / "stdin.jsonl"):
        if is_new:
            kept.unlink(missing_ok=True)
        elif kept.is_file():
            return _file(kept)
    content = sys.stdin.buffer.read()
    if not content.strip():
        raise DataError("Expected data on stdin, got none; pipe text or JSON lines to it.")
    format = ".jsonl" if content.lstrip().startswith(b"{") else ".txt"
    if keep is None:
        return DataFile(Path("<stdin>"), format, content)
    write_atomically(keep / f"stdin{format}", content)
    return _file(keep / f"stdin{format}")


def standard_library() -> list[DataFile]:
    """Python's own sources, without its tests and installed packages: real code on every machine.

    Raises DataError where the interpreter came without them.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    leave_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    found = [
        path for path in sorted(root.rglob("*.py")) if leave_out.isdisjoint(path.relative_to(root).parts[:-1])
    ]
    if not found:
        raise DataError(f"Expected Python's sources in {root}, got none; pass other data than {STDLIB!r}.")
    return [DataFile(path, ".txt", lenient=True) for path in found]
