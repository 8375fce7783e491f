"""Mapped files: views, bounds, and what cannot be mapped."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.mapped_file import MappedFile, ResidentFile


@pytest.mark.parametrize("kind", [MappedFile, ResidentFile])
def test_views_are_parts_of_the_file(tmp_path: Path, kind: type[MappedFile]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    mapping = kind(path)
    assert mapping.size == 256
    assert mapping.bytes_at(10, 3) == bytes([10, 11, 12])
    assert mapping.bytes_at(256, 0) == b""
    assert mapping.bytes_at(0, 256).readonly


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (0, 257), (256, 1), (10, -1), (2**63, 2**63)])
def test_reads_outside_of_the_file_are_refused(tmp_path: Path, offset: int, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(256))
    with pytest.raises(ModelFileError, match="cut short or damaged"):
        MappedFile(path).bytes_at(offset, size)


def test_views_outlive_the_object(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    view = MappedFile(path).bytes_at(0, 7)
    path.unlink()
    assert bytes(view) == b"content"


def test_pages_that_left_memory_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = os.urandom(5 * mmap.PAGESIZE + 17)
    path.write_bytes(content)
    mapping = MappedFile(path)
    assert mapping.view == content
    mapping.advise_dont_need()
    mapping.advise_dont_need(10, mmap.PAGESIZE * 3)
    mapping.advise_dont_need(len(content), 10)
    mapping.advise_dont_need(3, 4)
    assert mapping.view == content


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, error, text in (
        ("none", ModelNotFoundError, "does not exist"),
        ("empty", ModelFileError, "is empty"),
        ("pipe", ModelFileError, "is not a file"),
        (".", ModelFileError, "is not a file"),
    ):
        with pytest.raises(error, match=text):
            MappedFile(tmp_path / name)


def test_a_resident_file_is_a_copy_whatever_the_number_of_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.io.mapped_file._MOST_READ", 7)
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    resident = ResidentFile(path)
    path.write_bytes(bytes(100))
    resident.advise_dont_need()
    assert bytes(resident.view) == bytes(range(100))


@pytest.mark.parametrize("left", [0, 1 << 40])
def test_without_memory_of_its_own_a_resident_file_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    real = mmap.mmap

    def refuse(descriptor: int, size: int, **options: int) -> mmap.mmap:
        if descriptor == -1:
            raise OSError("no memory")
        return real(descriptor, size, **options)

    monkeypatch.setattr("weft.io.mapped_file.mmap.mmap", refuse)
    monkeypatch.setattr("weft.io.mapped_file.available_memory", lambda: left)
    assert bytes(ResidentFile(path).view) == b"abc"
