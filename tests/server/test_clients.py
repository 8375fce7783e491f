"""Requests as clients send them whose packages are too large for the tests: what they need is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.running_server import Server

MESSAGES = [{"role": "user", "content": "Say hello"}]


def events(server: Server, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream but the word that ends it."""
    status, _, content = server.call("POST", path, body)
    assert status == 200, content
    lines = [line.removeprefix("data: ") for line in content.decode().split("\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_guidellm_loads(server: Server) -> None:
    body = {
        "prompt": "The loom stands by the window",
        "model": server.ok("/v1/models")["data"][0]["id"],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 12,
        "stop": None,
        "ignore_eos": True,
    }
    told = events(server, "/v1/completions", body)
    assert told[-1]["usage"]["completion_tokens"] == 12


def test_lm_eval_scores_by_echo(server: Server) -> None:
    """`local-completions` sends token ids or texts, and sums the log-probabilities of what it asks about."""
    context, continuation = "A loom is a", " tool"
    body = {
        "prompt": [list((context + continuation).encode()), list(context.encode())],
        "model": "tiny",
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
        "temperature": 0,
    }
    choices = server.ok("/v1/completions", body)["choices"]
    for choice, prompt in zip(choices, body["prompt"], strict=True):
        told = choice["logprobs"]
        # One token more than the prompt: lm-eval cuts the last off.
        assert len(told["token_logprobs"]) == len(told["tokens"]) == len(prompt) + 1
        assert told["token_logprobs"][0] is None and all(value <= 0 for value in told["token_logprobs"][1:])
        for value, others in zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True):
            assert max(others.values()) >= value, "whether it is the likeliest is read off these"


def test_lm_eval_generates(server: Server) -> None:
    until = {"temperature": 0, "stop": ["Question:", "</s>", "<|im_end|>"], "seed": 1234, "model": "tiny"}
    answer = server.ok("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 8, **until})
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    chat = server.ok("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 8, **until})
    assert isinstance(chat["choices"][0]["message"]["content"], str)
    typed = [{"role": "user", "content": "Say hello", "type": "text"}]
    assert server.ok("/v1/chat/completions", {"messages": typed, "max_tokens": 8, **until})["choices"]


@pytest.mark.parametrize("streams", [False, True])
def test_llm_and_litellm_chat(server: Server, streams: bool) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 9, "stream": streams}
    if not streams:
        assert server.ok("/v1/chat/completions", body)["usage"]["completion_tokens"] <= 9
        return
    told = events(server, "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert told[-1]["usage"]["completion_tokens"] <= 9
