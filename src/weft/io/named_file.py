"""Files whose errors of writing say which file it was, as those of opening do."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO


class _NamedFile(io.FileIO):
    """The unbuffered file under `open_named`."""

    def __init__(self, path: Path, mode: str, shown: Path) -> None:
        super().__init__(os.fspath(path), mode)
        self._shown = shown

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            error.filename = str(self._shown)
            raise


def open_named(path: str | os.PathLike[str], mode: str, shown: Path | None = None) -> BinaryIO:
    """`path` opened for binary writing; the OSError of a write (full disk) names it, or `shown`."""
    place = Path(path)
    return io.BufferedWriter(_NamedFile(place, mode, shown or place))
