"""Conversations over HTTP, through the client that people have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.server.running_server import Server

openai = pytest.importorskip("openai")
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402

MESSAGES: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Héllo 你好"}]
BODY: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 24, "seed": 3}


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


def text_of(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def test_equals_the_library(server: Server, model: weft.Model) -> None:
    answer = ChatCompletion.model_validate(server.ok("/v1/chat/completions", BODY), strict=True)
    expected = model.chat(MESSAGES, max_tokens=24, seed=3)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.completion_tokens == len(expected.token_ids)
    assert answer.model == "tiny"


def test_stream_equals_whole(client: Any) -> None:
    whole = client.chat.completions.create(**BODY, logprobs=True, top_logprobs=2)
    stream = client.chat.completions.create(
        **BODY, logprobs=True, top_logprobs=2, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
    assert len(chunks) >= 3, "role, text, usage"
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    told = [c.choices[0].logprobs.content for c in chunks[:-1] if c.choices[0].logprobs]
    assert [token for part in told for token in part] == whole.choices[0].logprobs.content
    assert {len(token.top_logprobs) for part in told for token in part} == {2}
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and set(reasons[:-1]) == {None}


def test_several_choices(client: Any, model: weft.Model) -> None:
    whole = client.chat.completions.create(**BODY, n=3)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3, "each choice is drawn on its own"
    assert texts[0] == model.chat(MESSAGES, max_tokens=24, seed=3).text
    chunks = list(client.chat.completions.create(**BODY, n=3, stream=True))
    assert [text_of(chunks, index) for index in range(3)] == texts


def test_stop_bias_and_content_parts(client: Any) -> None:
    text = client.chat.completions.create(**BODY).choices[0].message.content
    stopped = client.chat.completions.create(**BODY, stop=[text[5:7]]).choices[0]
    assert stopped.message.content == text[: text.index(text[5:7])] and stopped.finish_reason == "stop"
    biased = client.chat.completions.create(**BODY, logit_bias={"65": 100}, top_p=0.1).choices[0]
    assert biased.message.content == "A" * 24
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in MESSAGES]
    assert client.chat.completions.create(**{**BODY, "messages": parts}).choices[0].message.content == text


def test_the_next_turn_reuses_the_one_before(client: Any) -> None:
    history = [{"role": "user", "content": "Tell me of looms. " * 9}]
    first = client.chat.completions.create(**{**BODY, "messages": history})
    assert first.usage.prompt_tokens_details.cached_tokens < 32, "another test's begin at most"
    turns = [*history, {"role": "assistant", "content": "x"}, {"role": "user", "content": "More."}]
    second = client.chat.completions.create(**{**BODY, "messages": turns})
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens // 32 * 32 - 32


def test_errors_are_the_clients_own(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="another"):
        client.chat.completions.create(**{**BODY, "model": "another"})
    with pytest.raises(openai.BadRequestError, match="temperature") as raised:
        client.chat.completions.create(**BODY, temperature=1000)
    assert raised.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="context of") as raised:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "long " * 20000}], max_tokens=1
        )
    assert raised.value.code == "context_length_exceeded"


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "weft"
