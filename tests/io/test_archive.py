"""Archives: members are copied out, hostile ones refused."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from weft.errors import ModelFileError
from weft.io.fetch.archive import Archive


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarball(path: Path, files: dict[str, bytes], link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [wheel, tarball])
def test_members_are_copied_out(tmp_path: Path, make: object) -> None:
    data = os.urandom(2_500_000)
    archive = Archive(make(tmp_path / "a", {"p/data": data, "p/other": b"x"}))  # type: ignore[operator]
    assert [(m.path, m.size, m.name, m.folder) for m in archive.members] == [
        ("p/data", len(data), "data", "p"), ("p/other", 1, "other", "p"),
    ]  # fmt: skip
    archive.copy_out("p/data", tmp_path / "out", sha256=hashlib.sha256(data).hexdigest())
    assert (tmp_path / "out").read_bytes() == data
    archive.copy_out("p/data", tmp_path / "part", start=1_000_000, end=2_000_001)
    assert (tmp_path / "part").read_bytes() == data[1_000_000:2_000_001]
    with pytest.raises(ModelFileError, match="has sha256"):
        archive.copy_out("p/data", tmp_path / "bad", sha256="0" * 64)
    with pytest.raises(ModelFileError, match="has no file p/none"):
        archive.copy_out("p/none", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "a\\..\\evil"])
@pytest.mark.parametrize("make", [wheel, tarball])
def test_paths_out_of_the_archive_are_refused(tmp_path: Path, make: object, name: str) -> None:
    with pytest.raises(ModelFileError, match="outside itself"):
        Archive(make(tmp_path / "a", {name: b"x"}))  # type: ignore[operator]


def test_links_are_not_members(tmp_path: Path) -> None:
    archive = Archive(tarball(tmp_path / "a", {"data": b"x"}, link="/etc/passwd"))
    assert [member.path for member in archive.members] == ["data"]


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path / "a", {"bomb": bytes(5_000_000)})
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, 100)
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        Archive(path).copy_out("bomb", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [wheel, tarball])
def test_damage_is_refused(tmp_path: Path, make: object) -> None:
    whole = make(tmp_path / "a", {"data": os.urandom(100_000)}).read_bytes()  # type: ignore[operator]
    for size in (0, 10, 1000, len(whole) // 2):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            Archive(tmp_path / "cut").copy_out("data", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    (tmp_path / "flipped").write_bytes(flipped)
    if make is wheel:
        with pytest.raises(ModelFileError):
            Archive(tmp_path / "flipped").copy_out("data", tmp_path / "out")
