from __future__ import annotations

import io

import pytest

from weft.errors import DataError
from weft.train.data.files import find_files, standard_library


def paths(files):
    return [file.path.name for file in files]


def test_a_glob_gives_its_files_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text("x")
    found = find_files([str(tmp_path / "*.txt"), str(tmp_path / "c.md")])
    assert paths(found.train) == ["a.txt", "b.txt", "c.md"]
    assert found.valid == found.test == []


def test_a_folder_with_splits_gives_them(tmp_path):
    for name in ("train.jsonl", "valid.jsonl", "test.txt", "other.txt"):
        (tmp_path / name).write_text("x")
    found = find_files([str(tmp_path)])
    assert [paths(split) for split in (found.train, found.valid, found.test)] == [
        ["train.jsonl"],
        ["valid.jsonl"],
        ["test.txt"],
    ]


def test_a_folder_without_splits_gives_all_that_is_read(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("z.txt", "deep/a.csv", "deep/picture.png"):
        (tmp_path / name).write_text("x")
    assert sorted(paths(find_files([str(tmp_path)]).train)) == ["a.csv", "z.txt"]


def test_of_a_folder_hidden_files_and_runs_are_left_out(tmp_path):
    for name in ("A.TXT", ".venv/names.txt", ".hidden.txt", "runs/a/log.jsonl", "runs/a/config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(find_files([str(tmp_path)]).train) == ["A.TXT"]


@pytest.mark.parametrize(("content", "format"), [(b'{"text": "a"}\n', ".jsonl"), (b"plain", ".txt")])
def test_stdin_is_text_or_json_lines(monkeypatch, content, format):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    (file,) = find_files(["-"]).train
    assert (file.format, file.read()) == (format, content)


def test_stdin_is_kept_for_the_next_time(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"once")))
    contents = [find_files(["-"], tmp_path).train[0].read() for _ in range(2)]
    assert contents == [b"once", b"once"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "new"}')))
    (file,) = find_files(["-"], tmp_path, is_new=True).train
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name] == ["stdin.jsonl"]


def test_the_standard_library_is_at_hand():
    files = standard_library()
    assert len(files) > 100 and all(file.lenient for file in files)
    assert not any("site-packages" in str(file.path) for file in files)


@pytest.mark.parametrize("name", ["no/such/file.txt", "nothing-*.txt", "archive.zip", "empty", "/dev/zero"])
def test_what_is_not_there_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "archive.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"expected|Expected"):
        find_files([name])


def test_no_data_is_refused():
    with pytest.raises(DataError, match="--data"):
        find_files([])
