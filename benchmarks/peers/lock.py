"""Keep measurements from disturbing each other, by an exclusive lock on a file that all of them name."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LONGEST_HOLD_SECONDS = 60.0
PAUSE_SECONDS = 0.3  # in which those that waited get the lock


class MeasuringLock:
    """An exclusive `flock`, kept over successive measurements for a minute and then offered to others.

    Without a path it does nothing. Taking it anew for each of many short measurements would wait each time
    for the longest of whatever the others had begun meanwhile.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.file: TextIO | None = None
        self.since = 0.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock for the block, and keep it afterwards while its minute lasts."""
        if self.path is not None and self.file is None:
            self.file = open(self.path, "a")  # noqa: SIM115 (stays open while the lock is kept)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self.since = time.monotonic()
        try:
            yield
        finally:
            if time.monotonic() - self.since > LONGEST_HOLD_SECONDS:
                self.release()

    @contextmanager
    def share(self) -> Iterator[None]:
        """Hold the lock as one of those that work but do not measure, such as while something compiles."""
        self.release()
        if self.path is None:
            yield
            return
        with open(self.path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def release(self) -> None:
        """Let others work."""
        if self.file is not None:
            self.file.close()
            self.file = None
            time.sleep(PAUSE_SECONDS)
