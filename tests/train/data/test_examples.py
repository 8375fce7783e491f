from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.byte_tokenizer import CHAT_TEMPLATE, byte_tokenizer

from weft.errors import DataError, UnsupportedError
from weft.io.text.chat_template import ChatTemplate
from weft.train.data.examples import read_examples
from weft.train.data.files import DataFile


@pytest.fixture
def template():
    return ChatTemplate.of(CHAT_TEMPLATE, byte_tokenizer())


def read(content, format=".jsonl", template=None):
    if isinstance(content, str):
        content = content.encode()
    return list(read_examples(DataFile(Path("data" + format), format, content), template))


def answers(example):
    return [example.text[begin:end] for begin, end in example.answers]


def test_a_text_file_is_one_document_without_its_mark():
    (example,) = read(b"\xef\xbb\xbfhello", ".txt")
    assert (example.text, example.answers) == ("hello", None)
    assert read(b" \n ", ".txt") == []


def test_prompt_and_completion():
    (example,) = read('{"prompt": "1+1=", "completion": "2"}')
    assert example.text == "1+1=2" and answers(example) == ["2"] and not example.has_marks


def test_a_conversation_by_the_template(template):
    turns = [
        ("system", "be brief"),
        ("user", "hi"),
        ("assistant", "ho"),
        ("user", "and"),
        ("assistant", "on"),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    (example,) = read(json.dumps({"messages": messages}), template=template)
    assert example.text == (
        "<s>system:be brief</s><s>user:hi</s><s>assistant:ho</s><s>user:and</s><s>assistant:on</s>"
    )
    assert answers(example) == ["ho</s>", "on</s>"] and example.has_marks


def test_prompt_and_completion_of_a_chat_model_are_a_conversation(template):
    (example,) = read('{"prompt": "a", "completion": "b"}', template=template)
    assert example.text == "<s>user:a</s><s>assistant:b</s>" and answers(example) == ["b</s>"]


def test_csv_rows_with_quoted_lines():
    first, second = read('prompt,completion\na,b\n"x,\ny",z\n', ".csv")
    assert (first.text, second.text) == ("ab", "x,\nyz")
    assert "line 4" in second.place


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_any_system(end):
    table = end.join(["text", "a", '"b', 'c"', ""]).encode()
    assert [example.text for example in read(b"\xef\xbb\xbf" + table, ".csv")] == ["a", f"b{end}c"]
    if end != "\r":
        lines = end.join(['{"text": "a"}', "", '{"text": "b"}']).encode()
        assert [example.text for example in read(b"\xef\xbb\xbf" + lines)] == ["a", "b"]


def test_a_line_is_read_when_its_turn_comes():
    examples = read_examples(DataFile(Path("d.jsonl"), ".jsonl", b'{"text": "a"}\nbroken'), None)
    assert next(examples).text == "a"
    with pytest.raises(DataError, match=r"d\.jsonl, line 2"):
        next(examples)


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        ('{"text": "a"}\nnonsense\n', ".jsonl", "data.jsonl, line 2: expected a JSON object"),
        ("[1]\n", ".jsonl", "line 1: expected a JSON object"),
        ('\n{"body": "a"}\n', ".jsonl", "line 2: expected the fields text.*got body"),
        ('{"text": 3}', ".jsonl", "line 1: expected text to be text, got int"),
        ('{"messages": []}', ".jsonl", "line 1: expected messages as a list"),
        ('{"messages": [{"role": "user", "content": "a"}]}', ".jsonl", "an answer of role assistant"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', ".jsonl", "a model with a chat template"),
        (b"fine\nbroken \xff here", ".txt", "line 2: expected text in UTF-8, got byte 0xff at offset 12"),
        ("hi".encode("utf-16"), ".txt", "got UTF-16"),
        ("text\na,b\n", ".csv", "line 2: expected 1 columns"),
        (b'{"text": "a"}\n{"text": "\xff"}', ".jsonl", "line 2: .*got byte 0xff at offset 24"),
        ("{}".encode("utf-16"), ".jsonl", "got UTF-16"),
    ],
)
def test_errors_name_file_and_line(content, format, message):
    with pytest.raises(DataError, match=message):
        read(content, format)


def test_sources_of_python_that_are_not_utf8_are_left_out():
    assert list(read_examples(DataFile(Path("a.py"), ".txt", b"\xff", lenient=True), None)) == []


def test_parquet_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match="pip install"):
        read(b"PAR1", ".parquet")


def test_parquet_rows():
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"text": ["a", "b"]}), sink)
    assert [example.text for example in read(sink.getvalue().to_pybytes(), ".parquet")] == ["a", "b"]
    with pytest.raises(DataError, match="expected a Parquet file"):
        read(b"PAR1 no", ".parquet")
