from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from weft.io.atomic_file import write_atomically
from weft.io.named_file import open_named


def test_what_is_written_is_there(tmp_path: Path) -> None:
    with open_named(tmp_path / "a", "w") as file:
        file.write(b"one")
    with io.TextIOWrapper(open_named(tmp_path / "a", "a"), encoding="utf-8") as text:
        text.write(" ß")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "one ß"


def test_a_full_disk_is_named() -> None:
    for shown, name in ((None, "/dev/full"), (Path("target"), "target")):
        file = open_named("/dev/full", "w", shown)
        file.write(b"x")
        with pytest.raises(OSError) as caught:
            file.flush()
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == name
        with pytest.raises(OSError):
            file.close()


def test_a_draft_that_cannot_be_is_named_as_its_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "none" / "file", b"x")
    assert caught.value.filename == str(tmp_path / "none" / "file")
