"""Calls of tools: offered, chosen, streamed and answered, through the client that people have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.server.running_server import Server
from weft.server.tool_prompt import knows_tools, with_tools
from weft.server.tool_reader import ToolReader
from weft.server.tools import CALL_BEGIN, CALL_END, Function, Tool

openai = pytest.importorskip("openai")
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Lyon", "上海"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "now", "description": "The time."}}
BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "How is it?"}],
    "max_tokens": 400,
    "seed": 3,
    "tools": [WEATHER, CLOCK],
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


def check_call(call: Any) -> None:
    assert call.type == "function" and call.id.startswith("call_")
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        jsonschema.validate(arguments, PARAMETERS)
    else:
        assert (call.function.name, arguments) == ("now", {})


def test_a_named_function_is_called(client: Any) -> None:
    for seed in range(3):
        answer = client.chat.completions.create(**{**BODY, "seed": seed}, tool_choice=NAMED)
        ChatCompletion.model_validate(answer.model_dump(), strict=True)
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        assert [call.function.name for call in choice.message.tool_calls] == ["get_weather"]
        check_call(choice.message.tool_calls[0])


@pytest.mark.parametrize("parallel", [True, False])
def test_required_calls(client: Any, parallel: bool) -> None:
    counts = set()
    for seed in range(6):
        choice = client.chat.completions.create(
            **{**BODY, "seed": seed, "max_tokens": 3000}, tool_choice="required", parallel_tool_calls=parallel
        ).choices[0]
        assert choice.finish_reason == "tool_calls"
        for call in choice.message.tool_calls:
            check_call(call)
        counts.add(len(choice.message.tool_calls))
    assert (max(counts) > 1) if parallel else counts == {1}


def test_streamed_calls_equal_whole_ones(client: Any) -> None:
    whole = client.chat.completions.create(**{**BODY, "max_tokens": 3000}, tool_choice="required").choices[0]
    chunks = list(
        client.chat.completions.create(
            **{**BODY, "max_tokens": 3000}, tool_choice="required", stream=True, logprobs=True
        )
    )
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
        for delta in chunk.choices[0].delta.tool_calls or ():
            call = calls.setdefault(
                delta.index, {"id": delta.id, "name": delta.function.name, "arguments": ""}
            )
            call["arguments"] += delta.function.arguments
    found = [(calls[index]["name"], calls[index]["arguments"]) for index in sorted(calls)]
    assert found == [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]
    assert all(call["id"] for call in calls.values())
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "tool_calls" and set(reasons[:-1]) == {None}
    told = [chunk.choices[0].logprobs.content for chunk in chunks if chunk.choices[0].logprobs]
    text = b"".join(bytes(token.bytes) for part in told for token in part).decode()
    assert text.startswith(CALL_BEGIN) and text.endswith(CALL_END)


def test_auto_answers_freely_or_calls(client: Any) -> None:
    free = client.chat.completions.create(**{**BODY, "max_tokens": 30}).choices[0]
    assert free.message.tool_calls is None and free.message.content
    bias = {str(byte): 100 for byte in CALL_BEGIN[:1].encode()}
    call = client.chat.completions.create(
        **BODY, logit_bias=bias | {"116": 50, "111": 60}, temperature=0, max_completion_tokens=20
    ).choices[0]
    assert call.finish_reason == "length"
    text = client.chat.completions.create(**{**BODY, "max_tokens": 30}, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in text) == free.message.content


def test_none_and_no_tools_are_free_text(client: Any) -> None:
    plain = {name: value for name, value in BODY.items() if name != "tools"} | {"max_tokens": 20}
    expected = client.chat.completions.create(**plain).choices[0].message
    found = (
        client.chat.completions.create(**{**BODY, "max_tokens": 20}, tool_choice="none").choices[0].message
    )
    assert found == expected


def test_calls_and_results_come_back(client: Any) -> None:
    first = client.chat.completions.create(**BODY, tool_choice=NAMED).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}
    turns = [*BODY["messages"], first.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(**{**BODY, "messages": turns, "max_tokens": 10})
    assert second.usage.prompt_tokens > len("rain") + len(first.tool_calls[0].function.arguments)


def test_json_instead_of_free_text(client: Any) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    found = (
        client.chat.completions.create(
            **BODY, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        )
        .choices[0]
        .message
    )
    assert found.tool_calls or json.loads(found.content) == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "no blanks"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]}, "tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"regex": "a"}, "tools"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
    ],
)
def test_refusals(server: Server, fields: dict[str, Any], param: str) -> None:
    error = server.refused(400, "/v1/chat/completions", {**BODY, **fields})
    assert error["type"] == "invalid_request_error" and error["param"] == param


CALL = CALL_BEGIN + '{"name": "get_weather", "arguments": {"city": "}\\n</tool_call>"}}' + CALL_END


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_reader_of_calls(size: int) -> None:
    reader, text = ToolReader(), CALL + "\n" + CALL
    deltas = [
        delta for begin in range(0, len(text), size) for delta in reader.push(text[begin : begin + size])
    ]
    assert reader.push("", is_last=True) == [] and reader.has_called
    arguments = [call.arguments for call in reader.calls]
    assert arguments == ['{"city": "}\\n</tool_call>"}'] * 2
    told = [part for delta in deltas for part in delta["tool_calls"]]
    for index in range(2):
        assert "".join(p["function"]["arguments"] for p in told if p["index"] == index) == arguments[index]


@pytest.mark.parametrize("text", ["", "<", "<tool", "<b>bold</b>", "plain <tool_call>\n"])
@pytest.mark.parametrize("size", [1, 1000])
def test_reader_of_free_text(text: str, size: int) -> None:
    reader = ToolReader()
    for begin in range(0, len(text), size):
        reader.push(text[begin : begin + size])
    reader.push("", is_last=True)
    assert reader.text == text and not reader.calls


@pytest.mark.parametrize("length", range(len(CALL)))
def test_reader_of_a_call_that_is_cut(length: int) -> None:
    reader = ToolReader()
    reader.push(CALL[:length], is_last=True)
    assert not reader.has_called
    if reader.calls:
        assert reader.calls[0].arguments in CALL and reader.text == ""


def test_prompt_without_a_template_for_tools() -> None:
    tool = Tool(type="function", function=Function(name="f", description="Does f."))
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
    ]
    system, user, assistant, results = with_tools(messages, [tool])
    assert system["content"].startswith("Be brief.\n\n") and '"name": "f"' in system["content"]
    assert user == messages[1]
    assert assistant["content"] == CALL_BEGIN + '{"name": "f", "arguments": {"x": 1}}' + CALL_END
    assert results == {
        "role": "user",
        "content": "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>",
    }
    assert with_tools(messages[1:2], [tool])[0]["role"] == "system"
    assert with_tools(messages[:2], []) == messages[:2]
    assert knows_tools("{% if tools %}<tool_call>") and not knows_tools("{{ messages }}")
    assert not knows_tools(None)
