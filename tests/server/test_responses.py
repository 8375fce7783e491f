"""OpenAI's newer API: responses, whole and as the events that build them up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.server.running_server import Server, running

openai = pytest.importorskip("openai")
from openai.types.responses import Response  # noqa: E402

INPUT = "Héllo 你好"
BODY: dict[str, Any] = {"model": "tiny", "input": INPUT, "max_output_tokens": 24, "extra_body": {"seed": 3}}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": INPUT}]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def model(tiny: Path, home: Path) -> Iterator[weft.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(home))
        with weft.load(tiny, threads=2) as loaded:
            yield loaded


def test_equals_the_library(client: Any, model: weft.Model) -> None:
    expected = model.chat(MESSAGES, max_tokens=24, seed=3)
    answer = client.responses.create(**BODY, instructions="Be brief.")
    Response.model_validate(answer.model_dump(), strict=True)
    assert answer.output_text == expected.text
    assert answer.status == ("incomplete" if expected.finish_reason == "length" else "completed")
    assert answer.usage.input_tokens == expected.prompt_tokens
    assert answer.usage.output_tokens == len(expected.token_ids)
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    parts = {"role": "user", "content": [{"type": "input_text", "text": INPUT}]}
    items = [{"role": "developer", "content": "Be brief."}, {**parts, "type": "message"}]
    assert client.responses.create(**{**BODY, "input": items}).output_text == expected.text


def test_an_answer_goes_back_as_it_came(client: Any, model: weft.Model) -> None:
    first = client.responses.create(**BODY, include=["message.output_text.logprobs"])
    more = {"role": "user", "content": "More."}
    items = [{"role": "user", "content": INPUT}, *(item.model_dump() for item in first.output), more]
    second = client.responses.create(**{**BODY, "input": items})
    turns = [MESSAGES[1], {"role": "assistant", "content": first.output_text}, more]
    assert second.output_text == model.chat(turns, max_tokens=24, seed=3).text


def test_the_limit_makes_it_incomplete(client: Any) -> None:
    extra = {"ignore_eos": True}
    answer = client.responses.create(**{**BODY, "max_output_tokens": 5, "extra_body": extra})
    assert (answer.status, answer.usage.output_tokens) == ("incomplete", 5)
    assert answer.incomplete_details.reason == "max_output_tokens"
    ended = client.responses.create(**{**BODY, "extra_body": {"logit_bias": {"257": 100}, "seed": 1}})
    assert ended.status == "completed" and ended.incomplete_details is None


def test_the_stream_builds_up_the_whole(client: Any) -> None:
    told = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = client.responses.create(**BODY, **told)
    events = list(client.responses.create(**BODY, **told, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{whole.status}",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = events[4:-4]
    assert "".join(event.delta for event in deltas) == events[-4].text == whole.output_text
    scores = [token.logprob for event in deltas for token in event.logprobs]
    assert scores == [token.logprob for token in whole.output[0].content[0].logprobs]
    assert {len(token.top_logprobs) for token in whole.output[0].content[0].logprobs} == {2}
    last = events[-1].response
    Response.model_validate(last.model_dump(), strict=True)
    assert last.output_text == whole.output_text and last.usage == whole.usage
    assert {event.item_id for event in deltas} == {last.output[0].id}


def test_the_clients_own_stream(client: Any) -> None:
    text = client.responses.create(**BODY).output_text
    body = {**BODY, "extra_body": {"seed": 3, "stop": text[5:7]}}  # it takes complete responses alone
    with client.responses.stream(**body) as stream:
        assert stream.get_final_response().output_text == text[: text.index(text[5:7])]


def test_refusals(server: Server) -> None:
    for param, change in {
        "previous_response_id": {"previous_response_id": "resp_1"},
        "store": {"store": True},
        "tools[0].type": {"tools": [{"type": "web_search"}]},
        "input[0].type": {"input": [{"type": "reasoning", "role": "user", "content": "a"}]},
        "input[0].content[0].type": {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "max_output_tokens": {"max_output_tokens": 0},
        "n": {"n": 2},
        "reasoning": {"reasoning": {"effort": "low"}},
        "temperature": {"temperature": 1000},
        "colour": {"colour": 1},
    }.items():
        named = str(server.refused(400, "/v1/responses", {"input": "a", **change})["param"])
        assert named in param and named, (named, param)
    assert server.refused(400, "/v1/responses", {})["param"] == "input"


def test_a_response_that_is_broken_off_says_so(tiny: Path, home: Path) -> None:
    with running(tiny, home, "--shutdown-time", "0.3") as server:
        body = {"input": "a", "max_output_tokens": 60_000}
        with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            stream = client.responses.create(
                model="tiny", **body, stream=True, extra_body={"ignore_eos": True}
            )
            first = next(stream)
            server.process.send_signal(signal.SIGTERM)
            last = list(stream)[-1]
        assert (first.type, last.type) == ("response.created", "response.failed")
        assert last.response.status == "failed" and "shut down" in last.response.error.message
        assert server.process.wait(300) == 0
