"""A file mapped read-only, whose parts are handed out as bounds-checked views."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from weft.errors import ModelFileError, ModelNotFoundError


class MappedFile:
    """Map the file at `path` for reading; views share the mapping and copy nothing.

    The mapping lives as long as this object or any view of it does. A file that another process shortens
    while it is mapped faults on access, as with every mapping: replace model files by renaming.
    May be used from several threads. Raises ModelNotFoundError or ModelFileError.
    """

    __slots__ = ("_mapping", "modified_ns", "path", "size", "view")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        descriptor = _open_regular_file(self.path)
        try:
            status = os.fstat(descriptor)
            if status.st_size == 0:
                raise ModelFileError(f"{self.path} is empty: download or copy it again")
            self.size = status.st_size
            self.modified_ns = status.st_mtime_ns
            self._mapping = mmap.mmap(descriptor, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{self.path} cannot be mapped into memory: {error}") from error
        finally:
            os.close(descriptor)
        self.view = memoryview(self._mapping)

    def bytes_at(self, offset: int, size: int) -> memoryview:
        """Bytes [offset, offset + size) of the file, without a copy."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ModelFileError(
                f"{self.path}: bytes {offset} to {offset + size} were expected, the file has {self.size}: "
                "it is cut short or damaged; download or copy it again"
            )
        return self.view[offset : offset + size]

    def advise_dont_need(self, offset: int = 0, size: int | None = None) -> None:
        """Tell the system that bytes [offset, offset + size) may leave memory; later reads fetch them again.

        Used after weights are repacked, so that the file's pages do not count as resident. A hint: it does
        nothing where the system has no such call. Pages that are only partly inside the range are kept.
        """
        end = self.size if size is None else min(offset + size, self.size)
        first = -(-max(offset, 0) // mmap.PAGESIZE) * mmap.PAGESIZE
        last = self.size if end == self.size else end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED, first, last - first)


def _open_regular_file(path: Path) -> int:
    # O_NONBLOCK: opening a named pipe must not wait for its writer; it is refused right below.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path} does not exist: check the path") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be opened: {error.strerror}") from error
    if not os.path.isfile(path):
        os.close(descriptor)
        raise ModelFileError(f"{path} is not a file: give the path of a model file")
    return descriptor
