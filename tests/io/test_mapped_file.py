"""Mapped files: views, bounds, and what cannot be mapped."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.mapped_file import MappedFile


def test_views_are_parts_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)))
    mapping = MappedFile(path)
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
