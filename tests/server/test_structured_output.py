"""Answers held to JSON, schemas, expressions and grammars over HTTP, through the client that people have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from tests.server.running_server import Server

openai = pytest.importorskip("openai")

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Lyon", "Ürümqi", "上海"]},
        "degrees": {"type": "integer", "minimum": -60, "maximum": 60},
    },
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "How is it?"}],
    "max_tokens": 200,
    "seed": 3,
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


def text_of(client: Any, **fields: Any) -> str:
    choice = client.chat.completions.create(**{**BODY, **fields}).choices[0]
    assert choice.finish_reason == "stop"
    text: str = choice.message.content
    return text


def test_json_schema(client: Any) -> None:
    texts = [text_of(client, response_format=FORMAT, seed=seed) for seed in range(6)]
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)
    assert len(set(texts)) > 3


def test_the_same_streamed_and_among_others(client: Any) -> None:
    alone = [text_of(client, response_format=FORMAT, seed=seed) for seed in range(8)]

    def streamed(seed: int) -> str:
        chunks = client.chat.completions.create(**{**BODY, "seed": seed}, response_format=FORMAT, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(streamed, range(8))) == alone


def test_json_object_and_text(client: Any) -> None:
    found = client.chat.completions.create(**BODY, response_format={"type": "json_object"}).choices[0]
    assert found.message.content.startswith("{")
    plain = client.chat.completions.create(**BODY, response_format={"type": "text"}).choices[0]
    assert plain.message.content == client.chat.completions.create(**BODY).choices[0].message.content


@pytest.mark.parametrize("name", ["regex", "guided_regex"])
def test_regex(client: Any, name: str) -> None:
    assert re.fullmatch(r"[a-z]{3}-\d{4}", text_of(client, extra_body={name: r"[a-z]{3}-\d{4}"}))


@pytest.mark.parametrize("name", ["grammar", "guided_grammar"])
def test_grammar(client: Any, name: str) -> None:
    text = text_of(client, extra_body={name: 'root ::= ("ja" | "nein") "!"'})
    assert text in ("ja!", "nein!")


def test_guided_json_and_completions(client: Any) -> None:
    jsonschema.validate(json.loads(text_of(client, extra_body={"guided_json": SCHEMA})), SCHEMA)
    fields = {"prompt": "x", "model": "tiny", "max_tokens": 200, "seed": 1}
    found = client.completions.create(**fields, extra_body={"response_format": FORMAT}).choices[0]
    jsonschema.validate(json.loads(found.text), SCHEMA)
    assert client.completions.create(**fields, extra_body={"regex": "yes|no"}).choices[0].text in (
        "yes",
        "no",
    )


def test_several_choices_with_logprobs(client: Any) -> None:
    found = client.chat.completions.create(**BODY, response_format=FORMAT, n=3, logprobs=True, top_logprobs=2)
    texts = [choice.message.content for choice in found.choices]
    assert len(set(texts)) > 1
    for choice in found.choices:
        told = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
        assert told.decode() == choice.message.content


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"regex": "a("}, "regex", "unclosed group"),
        ({"guided_regex": "(?<=a)b"}, "guided_regex", "look-around"),
        ({"grammar": "start: nothing"}, "grammar", "nothing"),
        ({"guided_json": "{"}, "guided_json", "JSON"),
        ({"regex": "a", "grammar": 'start: "a"'}, "grammar", "one constraint"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos", "ignore_eos"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            "response_format",
            "not",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
            "response_format",
            "nonsense",
        ),
    ],
)
def test_refusals(server: Server, fields: dict[str, Any], param: str, named: str) -> None:
    error = server.refused(400, "/v1/chat/completions", {**BODY, **fields})
    assert error["type"] == "invalid_request_error" and error["param"] == param
    assert named in error["message"]


def test_a_deep_schema_is_refused(server: Server) -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(400):
        schema = {"type": "array", "items": schema}
    error = server.refused(400, "/v1/chat/completions", {**BODY, "guided_json": json.dumps(schema)})
    assert error["param"] == "guided_json"
