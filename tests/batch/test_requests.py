"""Requests from files: lines, tables, and what is wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft.batch.config import BatchConfig
from weft.batch.lines import MAX_LINE_BYTES
from weft.batch.requests import BatchRequest, count_requests, read_requests
from weft.errors import DataError

LINES = BatchConfig()


def line(name: str, **other: object) -> str:
    fields = {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}
    return json.dumps(fields | other)


def read(path: Path, config: BatchConfig = LINES) -> list[BatchRequest]:
    requests = list(read_requests(path, config))
    assert count_requests(path, config) == len(requests)
    return requests


def test_lines_are_requests(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line("a") + "\n\n  \r\n" + line("b", body={"prompt": "y"}))
    first, second = read(path)
    assert (first.custom_id, first.url, first.problem) == ("a", "/v1/completions", None)
    assert json.loads(bytes(second.body)) == {"prompt": "y"}


def test_what_is_wrong_is_a_request_with_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    wrong = {
        "no JSON": ("{", None),
        "a list": ("[]", None),
        "no name": (json.dumps({"method": "POST"}), None),
        "a name of another type": (line("x", custom_id=3), None),
        "an unknown field": (line("b", temperature=1), "b"),
        "a method": (line("c", method="GET"), "c"),
        "a url": (line("d", url="/v1/embeddings"), "d"),
        "deep": ('{"custom_id":"e","body":' + "[" * 100_000, None),
        "bytes": (line("f")[:-1] + ', "\udcff": 1}', "f"),
        "twice": (line("a"), "a"),
    }
    text = "\n".join([line("a"), *(content for content, _ in wrong.values()), line("z")])
    path.write_bytes(text.encode(errors="surrogateescape"))
    first, *found, last = read(path)
    assert first.problem is None and last.problem is None
    for (what, (_, name)), request in zip(wrong.items(), found, strict=True):
        assert request.problem is not None and request.problem.status == 400, what
        assert request.custom_id == name, what
        assert "; " in request.problem.message, what


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.write(line("a").encode() + b"\n")
        file.seek(3 * MAX_LINE_BYTES, 1)  # a hole: zeros that take no disk
        file.write(b"\n" + line("b").encode())
    first, long, last = read(path)
    assert first.custom_id == "a" and last.custom_id == "b"
    assert long.problem is not None and "shorten it" in long.problem.message


ROWS = [{"name": "r1", "text": 'a, "b"\nc'}, {"name": "r2", "text": "ü"}]


def write_csv(path: Path) -> None:
    path.write_text('name,text\nr1,"a, ""b""\nc"\nr2,ü\n', encoding="utf-8-sig")


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS))


def write_parquet(path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_rows_of_a_table_are_prompts(tmp_path: Path, write: object) -> None:
    path = tmp_path / write.__name__.replace("write_", "in.")
    write(path)
    config = BatchConfig(template="<{text}>", id_column="name", system="s")
    for request, row in zip(read(path, config), ROWS, strict=True):
        assert request.custom_id == row["name"] and request.url == "/v1/chat/completions"
        system, user = json.loads(request.body)["messages"]
        assert system == {"role": "system", "content": "s"}
        assert user == {"role": "user", "content": f"<{row['text']}>"}
    raw = read(path, BatchConfig(column="text", raw=True))
    assert [request.custom_id for request in raw] == ["row-1", "row-2"]
    assert [json.loads(request.body) for request in raw] == [{"prompt": row["text"]} for row in ROWS]


def test_a_bad_row_is_its_own_problem(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"text,n\ngood,1\nshort\nlong,1,2\n\xff,1\nlast,2\n")
    requests = read(path, BatchConfig(column="text"))
    assert [request.problem is None for request in requests] == [True, False, False, False, True]
    assert [request.custom_id for request in requests] == [f"row-{n}" for n in range(1, 6)]
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n{"text": null}\n[]\n{\n{"other": "a"}\n{"text": "b"}')
    requests = read(path, BatchConfig(column="text"))
    assert [request.problem is None for request in requests] == [True, False, False, False, False, True]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name in ("in.xlsx", "in"):
        (tmp_path / name).write_text("x")
        with pytest.raises(DataError, match="convert or rename it"):
            read(tmp_path / name, BatchConfig(column="text"))
