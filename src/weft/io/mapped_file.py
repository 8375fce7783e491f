"""A file in memory, mapped or copied, whose parts are handed out read-only as bounds-checked views."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from weft.errors import ModelFileError, ModelNotFoundError
from weft.machine import available_memory

_LARGE_PAGE = 2 << 20  # bytes
_MOST_READ = 1 << 30  # bytes in one call; systems stop at 2 GiB


class MappedFile:
    """Map the file at `path` for reading; views share the mapping and copy nothing.

    The mapping lives as long as this object or any view of it does. A file that another process shortens
    while it is mapped faults on access, as with every mapping: replace model files by renaming.
    May be used from several threads. Raises ModelNotFoundError or ModelFileError.
    """

    __slots__ = ("_mapping", "modified_ns", "path", "size", "view")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._open(path, _map_file)

    def _open(self, path: str | os.PathLike[str], to_memory: Callable[[int, int], mmap.mmap]) -> None:
        self.path = Path(path)
        descriptor = _open_regular_file(self.path)
        try:
            status = os.fstat(descriptor)
            if status.st_size == 0:
                raise ModelFileError(f"{self.path} is empty: download or copy it again")
            self.size = status.st_size
            self.modified_ns = status.st_mtime_ns
            self._mapping = to_memory(descriptor, self.size)
        except (OSError, ValueError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{self.path} cannot be mapped into memory: {error}") from error
        finally:
            os.close(descriptor)
        self.view = memoryview(self._mapping)[: self.size].toreadonly()

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


class ResidentFile(MappedFile):
    """The file at `path` copied into large pages, which are read up to 1.4 times as fast as a mapping's.

    The copy is this process's own: what happens to the file later does not matter. A file that would take
    more than half of the memory that is left is mapped instead. Raises ModelNotFoundError or ModelFileError.
    """

    __slots__ = ()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._open(path, _read_into_large_pages)

    def advise_dont_need(self, offset: int = 0, size: int | None = None) -> None:
        """Does nothing: no file would fill the pages of a copy again."""


def _map_file(descriptor: int, size: int) -> mmap.mmap:
    return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)


def _read_into_large_pages(descriptor: int, size: int) -> mmap.mmap:
    if size > available_memory() // 2:
        return _map_file(descriptor, size)
    pages = -(-size // _LARGE_PAGE)
    try:
        memory = mmap.mmap(-1, pages * _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError, AttributeError):  # no such memory, or no such call on this system
        return _map_file(descriptor, size)
    with contextlib.suppress(OSError, AttributeError):  # a wish: without it the pages are small
        memory.madvise(mmap.MADV_HUGEPAGE)
    place = memoryview(memory)
    at = 0
    while at < size:
        read = os.preadv(descriptor, [place[at : min(size, at + _MOST_READ)]], at)
        if read == 0:
            raise OSError("the file became shorter while it was read")
        at += read
    return memory


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
