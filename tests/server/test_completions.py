"""Continued prompts over HTTP, and how likely they are: as lm-eval asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weft
from tests.server.running_server import Server, running
from tests.support.tiny_folder import write_tiny_folder

TEXTS = ["Weft and warp", "a", "The loom. " * 12]


@pytest.fixture(scope="module")
def model(tiny: Path, home: Path) -> Iterator[weft.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(home))
        with weft.load(tiny, threads=2) as loaded:
            yield loaded


def post(server: Server, **body: Any) -> list[dict[str, Any]]:
    content = server.ok("/v1/completions", body)
    completion = pytest.importorskip("openai.types.completion").Completion
    if not (body.get("echo") and body.get("logprobs") is not None):  # OpenAI's own first token has null
        completion.model_validate(content, strict=True)
    return content["choices"]


def events(server: Server, **body: Any) -> list[Any]:
    status, headers, content = server.call("POST", "/v1/completions", {**body, "stream": True})
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    lines = content.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_equals_the_library(server: Server, model: weft.Model) -> None:
    choices = post(server, prompt=TEXTS, max_tokens=20, seed=5)
    expected = model.generate(TEXTS, max_tokens=20, seed=5)
    assert [choice["text"] for choice in choices] == [answer.text for answer in expected]
    ids = [model.tokenizer.encode(text) for text in TEXTS]
    assert post(server, prompt=ids, max_tokens=20, seed=5) == choices
    assert post(server, prompt=ids[0], max_tokens=20, seed=5) == choices[:1]


def test_streams_each_prompts_choices(server: Server) -> None:
    body: dict[str, Any] = {"prompt": TEXTS[:2], "n": 2, "max_tokens": 9, "seed": 5, "logprobs": 1}
    whole = post(server, **body)
    assert [choice["index"] for choice in whole] == [0, 1, 2, 3]
    chunks = events(server, **body, stream_options={"include_usage": True})
    for choice in whole:
        parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        told = [part["logprobs"] for part in parts if part["logprobs"]]
        assert [token for part in told for token in part["tokens"]] == choice["logprobs"]["tokens"]
        assert [place for part in told for place in part["text_offset"]] == choice["logprobs"]["text_offset"]
    prompt_tokens = sum(map(len, TEXTS[:2]))
    assert chunks[-1]["usage"]["prompt_tokens"] == prompt_tokens
    assert {chunk["usage"] for chunk in chunks[:-1]} == {None}


def test_usage_so_far(server: Server) -> None:
    told = {"include_usage": True, "continuous_usage_stats": True}
    chunks = events(server, prompt="abc", max_tokens=9, ignore_eos=True, stream_options=told)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts) and counts[-2:] == [9, 9] and counts[0] > 0
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {3}


def test_echo_gives_the_scores_of_the_prompt(server: Server, model: weft.Model) -> None:
    choices = post(server, prompt=TEXTS, max_tokens=1, echo=True, logprobs=3, temperature=0)
    for text, choice, scores in zip(TEXTS, choices, model.score(TEXTS), strict=True):
        told, n = choice["logprobs"], len(text)
        assert choice["text"].startswith(text)
        assert "".join(told["tokens"][:n]) == text
        assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
        assert np.array(told["token_logprobs"][1:n], np.float32).tolist() == scores.tolist()
        assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"])
        for value, others in zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True):
            assert len(others) <= 3 and max(others.values()) >= value - 1e-6


def byte_ids(tokens: list[str]) -> list[int]:
    """Ids of the tiny model's tokens, each of which is a byte, from their texts in log-probabilities."""
    return [int(text[-2:], 16) if text.startswith("bytes:") else ord(text) for text in tokens]


def test_the_likeliest_tokens_of_a_prompt_are_those_that_would_be_drawn(server: Server) -> None:
    settings = {"max_tokens": 40, "temperature": 0, "logprobs": 2, "ignore_eos": True}
    settings["logit_bias"] = {
        "256": -100,
        "257": -100,
    }  # bytes alone: what is told is the model's own all the same
    drawn = post(server, prompt="weft", **settings)[0]["logprobs"]
    ids = [*b"weft", *byte_ids(drawn["tokens"])]
    echoed = post(server, prompt=ids, max_tokens=0, echo=True, logprobs=2)[0]["logprobs"]
    assert len(ids) == len(echoed["tokens"]) == 44
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        assert echoed[name][4:] == drawn[name]
    for token, value, others in zip(
        *(drawn[n] for n in ("tokens", "token_logprobs", "top_logprobs")), strict=True
    ):
        assert len(others) == 2
        assert (token in others and others[token] == value) or value < min(others.values())


def test_echo_streams(server: Server) -> None:
    body: dict[str, Any] = {"prompt": TEXTS[:2], "max_tokens": 4, "seed": 1, "echo": True}
    for logprobs in (None, 2):
        whole = post(server, **body, logprobs=logprobs)
        chunks = events(server, **body, logprobs=logprobs)
        for choice in whole:
            parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
            assert "".join(part["text"] for part in parts) == choice["text"]
    scored = events(server, prompt="abc", max_tokens=0, echo=True, logprobs=0)
    assert [chunk["choices"][0]["text"] for chunk in scored] == ["abc"]


def test_what_fits_a_gap(tiny: Path, home: Path, tmp_path: Path) -> None:
    marks = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    folder = write_tiny_folder(tmp_path / "filling", marks=marks)
    with running(folder, home) as filling:
        settings: dict[str, Any] = {"max_tokens": 9, "temperature": 0, "logprobs": 0}
        found = filling.ok("/v1/completions", {"prompt": ["a ", [*b"b"]], "suffix": " c</s>", **settings})
        for choice, before in zip(found["choices"], (b"a ", b"b"), strict=True):
            asked = [258, *before, 259, *b" c</s>", 260]
            assert (
                choice["text"]
                == filling.ok("/v1/completions", {"prompt": asked, **settings})["choices"][0]["text"]
            )
        refused = filling.refused(400, "/v1/completions", {"prompt": "a", "suffix": "b", "echo": True})
        assert refused["param"] == "suffix"


def test_refusals(server: Server) -> None:
    for param, body in {
        "best_of": {"prompt": "a", "best_of": 3},
        "max_tokens": {"prompt": "a", "max_tokens": 0},
        "prompt": {"prompt": ["a", 3]},
        "suffix": {"prompt": "a", "suffix": "b"},
        "logit_bias": {"prompt": "a", "logit_bias": {"300": 1}},
    }.items():
        assert server.refused(400, "/v1/completions", body)["param"] == param
