"""The API's description, held against what is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.running_server import Server, running

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="schemathesis is not installed")
schemathesis = pytest.importorskip("schemathesis")

MESSAGES = [{"role": "user", "content": "a"}]
# Requests that between them bring out every part of the answers.
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2, "logprobs": True, "top_logprobs": 2}),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 2, "n": 2}),
    ("/v1/completions", {"prompt": "ab", "max_tokens": 2, "echo": True, "logprobs": 2}),
    ("/v1/responses", {"input": "ab", "max_output_tokens": 2}),
    ("/v1/responses", {"input": "ab", "include": ["message.output_text.logprobs"], "max_output_tokens": 1}),
    ("/tokenize", {"prompt": "a"}),
    ("/detokenize", {"tokens": [97]}),
]
STREAMED = [(path, body) for path, body in REQUESTS if path.startswith("/v1")]


@pytest.fixture(scope="module")
def description(server: Server) -> dict[str, Any]:
    return server.ok("/openapi.json")


def check(description: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Raises where `value` is not as `schema` says."""
    jsonschema_rs.validate({**schema, "components": description["components"]}, value)


def schema_of(description: dict[str, Any], path: str, method: str, status: int, media_type: str) -> Any:
    responses = description["paths"][path][method]["responses"]
    return responses[str(status)]["content"][media_type]["schema"]


def test_the_description_is_valid(description: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(description).validate()
    operations = [entry for methods in description["paths"].values() for entry in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


def test_all_that_is_served_is_described(description: dict[str, Any]) -> None:
    from weft.server.app import ENDPOINTS

    served = {(endpoint.described_path, endpoint.method.lower()) for endpoint in ENDPOINTS}
    told = {(path, method) for path, methods in description["paths"].items() for method in methods}
    assert served == told


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_answers_are_as_described(
    server: Server, description: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    check(description, schema_of(description, path, "post", 200, "application/json"), server.ok(path, body))
    asked = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    check(description, asked, body)
    with pytest.raises(jsonschema_rs.ValidationError):
        check(description, asked, {**body, "colour": 1})


def test_other_answers_are_as_described(server: Server, description: dict[str, Any]) -> None:
    for path in ("/v1/models", "/health", "/health/ready", "/version"):
        schema = schema_of(description, path, "get", 200, "application/json")
        check(description, schema, server.ok(path))
    one = schema_of(description, "/v1/models/{name}", "get", 200, "application/json")
    check(description, one, server.ok("/v1/models/tiny"))
    refusal = schema_of(description, "/tokenize", "post", 400, "application/json")
    error = json.loads(server.call("POST", "/tokenize", {})[2])
    check(description, refusal, error)
    with pytest.raises(jsonschema_rs.ValidationError):
        check(description, refusal, {"error": {**error["error"], "more": 1}})


@pytest.mark.parametrize(("path", "body"), STREAMED)
def test_events_are_as_described(
    server: Server, description: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    events = server.call("POST", path, streamed)[2].decode().split("\n\n")
    assert events.pop() == "" and (events[-1] != "data: [DONE]" or events.pop())
    schema = schema_of(description, path, "post", 200, "text/event-stream")
    kinds = schema["properties"]["data"]["anyOf"][1]["contentSchema"]
    for event in events:
        check(description, kinds, json.loads(event.partition("data: ")[2]))
    assert len(events) >= 2


def test_keys_are_described(tiny: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a-key\n")
    with running(tiny, home, "--api-key-file", tmp_path / "keys") as server:
        paths = server.ok("/openapi.json")["paths"]
        assert paths["/tokenize"]["post"]["security"] == [{"key": []}]
        assert "401" in paths["/tokenize"]["post"]["responses"]
        assert paths["/health"]["get"]["security"] == []
