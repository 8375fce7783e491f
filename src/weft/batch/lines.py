"""Lines of large files, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE_BYTES = 1 << 26


def read_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file that are not blank; None for one that is too long to be a request."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) <= MAX_LINE_BYTES:
            if line.strip():
                yield line
            continue
        while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
            pass
        yield None
