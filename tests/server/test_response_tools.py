"""Functions and formats in /v1/responses: calls, their results and JSON, through OpenAI's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.server.running_server import Server
from tests.server.test_tools import PARAMETERS

openai = pytest.importorskip("openai")
from openai.types.responses import Response  # noqa: E402

WEATHER = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
CLOCK = {"type": "function", "name": "now", "description": "The time.", "parameters": None, "strict": False}
NAMED = {"type": "function", "name": "get_weather"}
BODY: dict[str, Any] = {
    "model": "tiny",
    "input": [{"role": "user", "content": "How is it?"}],
    "max_output_tokens": 400,
    "extra_body": {"seed": 3},
    "tools": [WEATHER, CLOCK],
}
LONG = {**BODY, "max_output_tokens": 3000}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_named_function_is_called(client: Any) -> None:
    answer = client.responses.create(**BODY, tool_choice=NAMED)
    Response.model_validate(answer.model_dump(), strict=True)
    (call,) = answer.output
    assert (call.type, call.status, call.name) == ("function_call", "completed", "get_weather")
    jsonschema.validate(json.loads(call.arguments), PARAMETERS)
    assert answer.status == "completed" and answer.output_text == ""
    assert answer.tools[0].name == "get_weather" and answer.tool_choice.name == "get_weather"


def test_calls_and_results_come_back(client: Any) -> None:
    first = client.responses.create(**BODY, tool_choice="required", parallel_tool_calls=False)
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    turns = [*BODY["input"], call.model_dump(exclude_none=True), result]
    second = client.responses.create(**{**BODY, "input": turns, "max_output_tokens": 10})
    assert second.usage.input_tokens > first.usage.input_tokens + len("rain") + len(call.arguments)


def test_streamed_calls_build_up_the_whole(client: Any) -> None:
    whole = client.responses.create(**LONG, tool_choice="required")
    events = list(client.responses.create(**LONG, tool_choice="required", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    Response.model_validate(last.model_dump(), strict=True)
    told = [(call.name, call.arguments) for call in last.output]
    assert told == [(call.name, call.arguments) for call in whole.output]
    for index, call in enumerate(last.output):
        own = [event for event in events if getattr(event, "output_index", None) == index]
        kinds = [event.type.removeprefix("response.") for event in own]
        assert kinds[0] == "output_item.added" and own[0].item.arguments == ""
        assert set(kinds[1:-2]) <= {"function_call_arguments.delta"}
        assert kinds[-2:] == ["function_call_arguments.done", "output_item.done"]
        assert "".join(event.delta for event in own[1:-2]) == own[-2].arguments == call.arguments
        assert {own[0].item.id, own[-2].item_id, own[-1].item.id} == {call.id}


def test_the_clients_own_stream(client: Any) -> None:
    tools = [{**WEATHER, "strict": True}]
    with client.responses.stream(**{**LONG, "tools": tools}, tool_choice=NAMED) as stream:
        (call,) = stream.get_final_response().output
    jsonschema.validate(json.loads(call.arguments), PARAMETERS)


def test_auto_answers_freely(client: Any) -> None:
    body = {**BODY, "max_output_tokens": 30, "include": ["message.output_text.logprobs"]}
    whole = client.responses.create(**body)
    assert [item.type for item in whole.output] == ["message"] and whole.output_text
    events = list(client.responses.create(**body, stream=True))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == whole.output_text
    scores = [token.logprob for event in deltas for token in event.logprobs]
    assert scores == [token.logprob for token in whole.output[0].content[0].logprobs]


def test_formats(client: Any) -> None:
    plain = {name: value for name, value in LONG.items() if name != "tools"}
    form = {"type": "json_schema", "name": "weather", "schema": PARAMETERS, "strict": True}
    answer = client.responses.create(**plain, text={"format": form})
    Response.model_validate(answer.model_dump(by_alias=True), strict=True)
    jsonschema.validate(json.loads(answer.output_text), PARAMETERS)
    assert answer.text.format.name == "weather"
    text = client.responses.create(**plain, text={"format": {"type": "text"}}).output_text
    assert text == client.responses.create(**plain).output_text
    bias = {"logit_bias": {str(ord("}")): 30}, "seed": 1}
    found = client.responses.create(
        **{**plain, "extra_body": bias}, text={"format": {"type": "json_object"}}
    ).output_text
    assert isinstance(json.loads(found), dict)
    constrained = client.responses.create(**{**plain, "extra_body": {"regex": "[ab]{3}"}}).output_text
    assert len(constrained) == 3 and set(constrained) <= set("ab")


CALL = {"type": "function_call", "call_id": "call_1", "name": "now", "arguments": "{}"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [], "regex": "a", "text": {"format": {"type": "json_object"}}}, "regex"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}, "tools": []},
            "text.format",
        ),
        ({"input": [{**CALL, "arguments": "{"}]}, "input[0].arguments"),
        ({"input": [{"role": "user", "content": "a"}, {**CALL, "role": "user"}]}, "input[1].role"),
        ({"input": [{"type": "function_call_output", "call_id": "call_1"}]}, "input[0].output"),
        ({"input": [{"content": "a"}]}, "input[0].role"),
    ],
)
def test_refusals(server: Server, fields: dict[str, Any], param: str) -> None:
    body = {name: value for name, value in BODY.items() if name != "extra_body"}
    error = server.refused(400, "/v1/responses", {**body, **fields})
    assert error["type"] == "invalid_request_error" and error["param"] == param
