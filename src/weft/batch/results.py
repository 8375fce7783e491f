"""The file of results: one line each, appended as it comes, never lost and never written twice.

A result is one line, written by one call and flushed to disk now and then. What a killed process left of a
line is cut off by the next, which goes on after the last whole one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from weft.batch.origin import origin_path
from weft.errors import BatchError
from weft.io.atomic_file import sync_folder

_SYNC_EVERY_S = 1.0
# Flushing to disk takes at most this share of the time, however slow the disk is.
_SYNC_SHARE = 0.02


class _Result(Struct):
    custom_id: str | None


_RESULT = msgspec.json.Decoder(_Result)


class ResultFile:
    """The results at `path`, locked for this process; `restart` drops those that are there. For one thread.

    Raises BatchError where another process writes there, or where it is no file of results; OSError.
    """

    def __init__(self, path: Path, restart: bool = False) -> None:
        self.path = path
        self.names: list[str | None] = []  # of the results that were there, in their order
        self._size = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._lock()
            if restart:
                os.ftruncate(self._file, 0)
            else:
                self._recover()
        except BaseException:
            os.close(self._file)
            raise
        self._synced_at = time.monotonic()
        self._sync_pause = _SYNC_EVERY_S

    def append(self, result: bytes) -> None:
        """Adds a result, a line without its end. Raises OSError; the file is as before then."""
        line = memoryview(result + b"\n")
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            if isinstance(error, OSError):
                error.filename = str(self.path)
            raise
        self._size += len(result) + 1
        if time.monotonic() - self._synced_at > self._sync_pause:
            self.sync()

    def sync(self) -> None:
        """Flushes to disk. Raises OSError."""
        begin = time.monotonic()
        os.fsync(self._file)
        self._synced_at = time.monotonic()
        self._sync_pause = max(_SYNC_EVERY_S, (self._synced_at - begin) / _SYNC_SHARE)

    def close(self) -> None:
        """Gives up the lock."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lock(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise BatchError(
                f"{self.path}: expected a file that can be continued, got another thing; name a file."
            )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BatchError(
                f"{self.path}: expected a file that nobody writes to, got one that another weft batch has; "
                "wait for it, or write elsewhere."
            ) from None
        sync_folder(self.path.parent)

    def _recover(self) -> None:
        """The names of the results that are there, in their order; cuts off a line that is not whole."""
        if os.fstat(self._file).st_size and not origin_path(self.path).exists():
            raise BatchError(
                f"{self.path}: expected results that weft batch began, got a file without "
                f"{origin_path(self.path).name} beside it; write elsewhere, or replace it with --restart."
            )
        with open(self._file, "rb", closefd=False) as file:
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        break
                    self.names.append(_RESULT.decode(line).custom_id)
                except (msgspec.MsgspecError, ValueError):
                    if file.read(1):
                        raise BatchError(
                            f"{self.path}, line {len(self.names) + 1}: expected a result of weft batch, got "
                            "another line; write elsewhere, or begin anew with --restart."
                        ) from None
                    break
                self._size += len(line)
        if self._size < os.fstat(self._file).st_size:
            os.ftruncate(self._file, self._size)
