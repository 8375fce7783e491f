"""The file of results: locked, whole lines, none lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft.batch.origin import check_origin, origin_path, write_origin
from weft.batch.results import ResultFile
from weft.errors import BatchError


def result(name: str | None) -> bytes:
    return json.dumps({"custom_id": name, "response": {"body": "x" * 50}}).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where results of a batch are, five of them."""
    path = tmp_path / "out.jsonl"
    (tmp_path / "in.jsonl").write_text("requests")
    write_origin(path, {}, tmp_path / "in.jsonl")
    with ResultFile(path) as results:
        for name in ("a", "b", None, "ü", "e"):
            results.append(result(name))
    return path


def test_results_are_found_again(path: Path) -> None:
    with ResultFile(path) as results:
        assert results.names == ["a", "b", None, "ü", "e"]
        results.append(result("f"))
    with ResultFile(path) as results:
        assert results.names[-1] == "f"
    with ResultFile(path, restart=True) as results:
        assert results.names == [] and path.read_bytes() == b""


def test_a_torn_line_is_cut_wherever_it_was_torn(path: Path) -> None:
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    before = b"".join(lines[:-1])
    for length in range(len(before) + 1, len(whole)):
        path.write_bytes(whole[:length])
        with ResultFile(path) as results:
            assert results.names == ["a", "b", None, "ü"]
            results.append(lines[-1].rstrip())
        assert path.read_bytes() == whole
    for torn in (b"\0" * 100, b"\0" * 100 + b"\n", b'{"custom_id": 3}\n', b"\xff\n"):
        path.write_bytes(before + torn)
        with ResultFile(path) as results:
            assert results.names == ["a", "b", None, "ü"]
        assert path.read_bytes() == before


def test_damage_before_the_end_is_refused(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b"{\n", *lines[3:]])
    path.write_bytes(damaged)
    with pytest.raises(BatchError, match="line 3: expected a result"):
        ResultFile(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"one line", b"a\nb\n", b'{"custom_id": "a"}\n', b"\0"])
def test_a_file_of_somebody_else_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(BatchError, match="--restart"):
        ResultFile(path)
    assert path.read_bytes() == content


def test_one_process_at_a_time(path: Path) -> None:
    with ResultFile(path), pytest.raises(BatchError, match="another weft batch"):
        ResultFile(path)
    ResultFile(path).close()


def test_changes_are_noticed_by_name(tmp_path: Path) -> None:
    path, requests = tmp_path / "out.jsonl", tmp_path / "in.jsonl"
    requests.write_text("a\n")
    settings = {"model": "m", "--temperature": 0.5, "--stop": ("x",)}
    write_origin(path, settings, requests)
    check_origin(path, dict(settings), requests)
    requests.write_text("a\nb\n")
    check_origin(path, dict(settings), requests)  # what was there is as it was
    with pytest.raises(
        BatchError, match=r"--temperature 0\.7 \(was 0\.5\), --top-k 3 \(was none\); begin anew"
    ):
        check_origin(path, {**settings, "--temperature": 0.7, "--top-k": 3}, requests)
    with pytest.raises(BatchError, match=r"--stop none"):
        check_origin(path, {"model": "m", "--temperature": 0.5}, requests)
    for other in ("b\n", "a", ""):
        requests.write_text(other)
        with pytest.raises(BatchError, match="other content"):
            check_origin(path, dict(settings), requests)
    assert origin_path(path).name == ".out.jsonl.origin.json"
