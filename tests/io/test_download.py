"""Downloads against a server on loopback: resumed, restarted, verified, and never half a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.io.http_server import FileServer
from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.fetch import download as module
from weft.io.fetch.download import RemoteFile, download, fetch_json

CONTENT = os.urandom(3_000_000)
DIGEST = ("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 5.0)


def remote(server: FileServer, known: bool = True) -> RemoteFile:
    server.files["/file"] = CONTENT
    return RemoteFile(server.url + "/file", len(CONTENT) if known else None, DIGEST if known else None)


def only_the_file(target: Path) -> bool:
    return target.read_bytes() == CONTENT and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("known", [True, False])
def test_a_file_arrives(server: FileServer, tmp_path: Path, known: bool) -> None:
    seen: list[tuple[str, int, int | None]] = []
    download(remote(server, known), tmp_path / "m", lambda *step: seen.append(step))
    assert only_the_file(tmp_path / "m")
    assert seen[-1] == ("m", len(CONTENT), len(CONTENT)) and [s[1] for s in seen] == sorted(
        s[1] for s in seen
    )
    server.requests.clear()
    download(remote(server, known), tmp_path / "m")
    assert server.requests == []


@pytest.mark.parametrize("known", [True, False])
def test_a_broken_transfer_is_continued(server: FileServer, tmp_path: Path, known: bool) -> None:
    server.break_after = [1_000_000, 500_000]
    download(remote(server, known), tmp_path / "m")
    assert only_the_file(tmp_path / "m")
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert len(ranges) == 3 and ranges[0] is None and ranges[1] and ranges[2]
    assert sum(int(text.removeprefix("bytes=").rstrip("-")) for text in ranges[1:] if text) > 1_000_000


def test_a_server_without_ranges_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.break_after, server.ignore_ranges = [1_000_000], True
    download(remote(server), tmp_path / "m")
    assert only_the_file(tmp_path / "m")


def test_without_tag_and_digest_nothing_is_continued(server: FileServer, tmp_path: Path) -> None:
    server.break_after, server.etag = [1_000_000], ""
    download(remote(server, known=False), tmp_path / "m")
    assert only_the_file(tmp_path / "m")
    assert all("Range" not in headers for _, headers in server.requests)


def test_a_later_call_continues(server: FileServer, tmp_path: Path) -> None:
    server.break_after = [100_000] + [0] * 50
    with pytest.raises(ModelNotFoundError, match="breaks off again and again"):
        download(remote(server), tmp_path / "m")
    assert not (tmp_path / "m").exists() and (tmp_path / "m.part").stat().st_size > 0
    server.break_after = []
    server.requests.clear()
    download(remote(server), tmp_path / "m")
    assert only_the_file(tmp_path / "m") and "Range" in server.requests[0][1]


def test_a_file_that_changed_meanwhile_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.break_after = [100_000] + [0] * 50
    with pytest.raises(ModelNotFoundError):
        download(remote(server, known=False), tmp_path / "m")
    server.break_after, server.etag = [], '"two"'
    download(remote(server, known=False), tmp_path / "m")
    assert only_the_file(tmp_path / "m")


def test_a_foreign_part_is_noticed(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(bytes(1000))
    download(remote(server), tmp_path / "m")
    assert only_the_file(tmp_path / "m")
    (tmp_path / "n.part").write_bytes(bytes(len(CONTENT) + 5))
    download(remote(server), tmp_path / "n")
    assert (tmp_path / "n").read_bytes() == CONTENT


def test_other_content_is_refused(server: FileServer, tmp_path: Path) -> None:
    wrong = RemoteFile(remote(server).url, len(CONTENT), ("sha256", "0" * 64))
    with pytest.raises(ModelFileError, match="other content than it promised"):
        download(wrong, tmp_path / "m")
    with pytest.raises(ModelFileError, match="were promised"):
        download(RemoteFile(wrong.url, 17), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_busy_servers_are_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429, 500]
    download(remote(server), tmp_path / "m")
    assert only_the_file(tmp_path / "m")


def test_refusals_are_said(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="answers 404"):
        download(RemoteFile(server.url + "/none"), tmp_path / "m")
    server.statuses = [403]
    with pytest.raises(ModelNotFoundError, match="set HF_TOKEN"):
        download(RemoteFile(server.url + "/none"), tmp_path / "m")
    with pytest.raises(ModelNotFoundError, match="http or https"):
        download(RemoteFile("file:///etc/passwd"), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_secrets_are_not_sent_on(server: FileServer, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT
    server.redirects["/here"] = server.url + "/file"
    download(RemoteFile(server.url + "/here", headers={"Authorization": "Bearer secret"}), tmp_path / "m")
    assert [headers.get("Authorization") for _, headers in server.requests] == ["Bearer secret", None]
    server.redirects["/there"] = "file:///etc/passwd"
    with pytest.raises(ModelNotFoundError):
        download(RemoteFile(server.url + "/there"), tmp_path / "n")


def test_a_full_disk_is_said_before(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(ModelFileError, match="make room or set WEFT_HOME"):
        download(remote(server), tmp_path / "m")


def test_an_unreachable_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="check the network"):
        download(RemoteFile("http://127.0.0.1:9/x"), tmp_path / "m")
    with pytest.raises(ModelNotFoundError, match="check the network"):
        fetch_json("http://127.0.0.1:9/x")


def test_json_answers(server: FileServer) -> None:
    server.add_json("/ok", {"a": 1})
    server.files["/bad"] = b"<html>"
    assert fetch_json(server.url + "/ok") == {"a": 1}
    with pytest.raises(ModelFileError, match="not valid JSON"):
        fetch_json(server.url + "/bad")


@pytest.mark.parametrize("hops", [1, 2])
def test_redirects_in_a_circle_are_refused(server: FileServer, tmp_path: Path, hops: int) -> None:
    for hop in range(hops):
        server.redirects[f"/{hop}"] = f"{server.url}/{(hop + 1) % hops}"
    with pytest.raises(ModelNotFoundError, match="answers 302"):
        download(RemoteFile(server.url + "/0"), tmp_path / "m")
    assert len(server.requests) < 20 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lie", [-1000, 1000])
def test_a_length_that_lies_gives_no_file(server: FileServer, tmp_path: Path, lie: int) -> None:
    """Announced and promised lengths differ, or bytes that were announced never come."""
    server.lie_about_length = lie
    with pytest.raises(ModelFileError, match="were promised"):
        download(remote(server), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    unknown = RemoteFile(server.url + "/file", None, DIGEST)
    with pytest.raises((ModelFileError, ModelNotFoundError)):
        download(unknown, tmp_path / "n")
    assert not (tmp_path / "n").exists()
