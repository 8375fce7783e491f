"""Answers held to a schema, an expression or a grammar by a real engine with a small random model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from tests.serve.test_engine import FreeRows
from tests.support.tiny_folder import write_tiny_folder
from weft.errors import ConfigError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "grün", "青"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
PROMPT = "Describe somebody."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[weft.Model]:
    folder = write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(tmp_path_factory.mktemp("home")))
        with weft.load(folder, threads=2, max_context=1024) as loaded:
            yield loaded


def answers(model: weft.Model, count: int, **sampling: Any) -> list[weft.Completion]:
    """One after another."""
    return [model.generate(PROMPT, seed=seed, **sampling)[0] for seed in range(count)]


def test_json_follows_its_schema(model: weft.Model) -> None:
    texts = set()
    for temperature in (0.0, 0.8, 3.0):
        for answer in answers(model, 4, json_schema=SCHEMA, temperature=temperature, max_tokens=400):
            assert answer.finish_reason == "stop"
            jsonschema.validate(json.loads(answer.text), SCHEMA)
            texts.add(answer.text)
    assert len(texts) > 6, "different answers"


def test_the_same_alone_in_a_batch_and_streamed(model: weft.Model) -> None:
    kinds: list[dict[str, Any]] = [
        {"json_schema": SCHEMA},
        {"regex": r"[a-z]{3,9}-\d+-(ja|nein)"},
        {"grammar": 'root ::= ("ab" | "c") "!" [0-9]*'},
        {},
    ]
    cases = [{**kind, "seed": seed, "max_tokens": 60, "top_k": 0} for seed in range(4) for kind in kinds]
    alone = [model.generate(PROMPT, **case)[0] for case in cases]
    streams = [model.stream(PROMPT, **case) for case in cases]
    for stream, case in zip(streams, cases, strict=True):
        pieces = list(stream)
        expected = alone[cases.index(case)]
        assert stream.completion == expected
        assert "".join(piece.text for piece in pieces) == expected.text


@pytest.mark.parametrize("num_teams", [1, 2])
def test_guesses_are_held_to_the_constraint_in_their_order(
    tmp_path: Path, model: weft.Model, num_teams: int
) -> None:
    """The same answers as without guesses, though most guesses of random texts are wrong or not allowed."""
    kinds: list[dict[str, Any]] = [
        {"regex": r"([abc]{1,3}-)*x", "temperature": 1.0},
        {"regex": r"(ab|ba)*", "logprobs": 2},
        {"json_schema": {"type": "array", "items": SCHEMA, "minItems": 2, "maxItems": 4}},
        {"grammar": 'root ::= ("ab" | "ba")* "!"', "frequency_penalty": 0.5},
        {"regex": "[ab]{40}", "stop": ("abab", "bbbb")},
        {"logit_bias": {97: 9.0, 98: 9.0}},
    ]
    cases = [{**kind, "seed": seed, "max_tokens": 90} for seed in range(3) for kind in kinds]
    with (
        weft.load(model.path, threads=2, max_context=1024, draft_max=0) as plain,
        weft.load(model.path, threads=2, max_context=1024, draft_max=8, teams=num_teams) as guessing,
    ):
        guessing.engine.drafter.costs = FreeRows()
        expected = [plain.generate(PROMPT, **case)[0] for case in cases]
        assert [guessing.generate(PROMPT, **case)[0] for case in cases] == expected
        streams = [guessing.stream(PROMPT, **case) for case in cases]
        assert [[*stream] and stream.completion for stream in streams] == expected
        counts = guessing.engine.statistics
        assert 0 < counts.num_accepted < counts.num_drafted
    assert plain.engine.statistics.num_drafted == 0


def test_preempted_answers_go_on_where_they_were(tmp_path: Path, model: weft.Model) -> None:
    folder = write_tiny_folder(tmp_path / "tiny")
    schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 30, "maxItems": 30}
    wanted = {"json_schema": schema, "max_tokens": 150, "temperature": 1.5}
    expected = [answer.token_ids for answer in answers(model, 6, **wanted)]
    with weft.load(folder, threads=2, max_context=256, kv_memory=16 * 32 * 256) as small:
        streams = [small.stream(PROMPT, seed=seed, **wanted) for seed in range(6)]
        found = [[token for piece in stream for token in piece.token_ids] for stream in streams]
        assert small.engine.scheduler.num_preemptions > 0, "the memory is too large for this test"
    assert [tuple(tokens) for tokens in found] == expected


@pytest.mark.parametrize(
    "regex", [r"yes|no", r"[0-9]{3}-[0-9]{4}", r"[äöü]{2,5}", r"(?i)loom", r"[^a-z]{1,20}x", ""]
)
def test_expressions(model: weft.Model, regex: str) -> None:
    for answer in answers(model, 6, regex=regex, temperature=2.0, top_k=0, max_tokens=100):
        assert answer.finish_reason == "stop"
        assert re.fullmatch(regex, answer.text, re.S), answer.text


def test_a_character_of_several_tokens_is_not_cut(model: weft.Model) -> None:
    for answer in answers(model, 6, regex="[你好世界]{3}", temperature=2.0, max_tokens=20):
        assert len(answer.token_ids) == 9 and re.fullmatch("[你好世界]{3}", answer.text)
    cut = model.generate(PROMPT, regex="[你好世界]{3}", max_tokens=4, seed=1)[0]
    assert cut.finish_reason == "length" and cut.text[1:] == "\ufffd"


def test_max_tokens_cuts(model: weft.Model) -> None:
    whole, cut = (model.generate(PROMPT, json_schema=SCHEMA, seed=1, max_tokens=n)[0] for n in (400, 9))
    assert cut.finish_reason == "length" and cut.token_ids == whole.token_ids[:9]


def test_blanks_do_not_run_away(model: weft.Model) -> None:
    blanks = {10: 50.0, 32: 100.0, 9: 50.0, 13: 50.0}
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    answer = model.generate(PROMPT, json_schema=schema, logit_bias=blanks, temperature=0, max_tokens=900)[0]
    assert answer.finish_reason == "stop" and len(answer.text) < 200
    assert set(json.loads(answer.text)) == {"a"}


def test_stop_strings_end_it(model: weft.Model) -> None:
    answer = model.generate(PROMPT, json_schema=SCHEMA, seed=2, max_tokens=400, stop=('"age"',))[0]
    assert answer.stop_reason == '"age"' and "age" not in answer.text


def test_penalties_and_biases_choose_among_what_is_allowed(model: weft.Model) -> None:
    plain = model.generate(PROMPT, regex="[ab]{40}", temperature=0)[0].text
    penalized = model.generate(PROMPT, regex="[ab]{40}", temperature=0, frequency_penalty=100.0)[0].text
    assert len(plain) == len(penalized) == 40
    assert penalized in ("ab" * 20, "ba" * 20), "each is as likely as it came seldom"
    biased = model.generate(PROMPT, regex="[ab]{40}", temperature=0, logit_bias={ord("z"): 100.0})[0].text
    assert biased == plain


def test_logprobs_are_the_models_own(model: weft.Model) -> None:
    answer = model.generate(PROMPT, regex="[0-9]{12}", seed=4, logprobs=5)[0]
    assert answer.logprobs is not None and answer.top_logprobs is not None
    tokens = [*model.tokenizer.encode(PROMPT), *answer.token_ids]
    scored = model.score(tokens)[0][-12:]
    assert list(answer.logprobs) == pytest.approx(scored.tolist(), abs=1e-4)
    assert any(set(top) - set(range(48, 58)) for top in answer.top_logprobs), "also of what is not allowed"


def test_choices_and_chat(model: weft.Model) -> None:
    found = model.chat("Yes?", regex="yes|no", seed=1)
    assert found.text in ("yes", "no")


def test_one_that_fails_leaves_the_others(model: weft.Model) -> None:
    other = model.stream(PROMPT, seed=1, max_tokens=30)
    params = model.generator.sampling({"regex": "[a-z]{40}", "seed": 1})
    failing = model.generator.request(PROMPT, params)
    assert failing.matcher is not None
    failing.matcher.handle.consume_token(ord("!"))  # as if the library had found a fault
    model.engine.submit([failing])
    with pytest.raises(ConfigError, match="regex"):
        model.engine.wait([failing])
    assert "".join(piece.text for piece in other) == model.generate(PROMPT, seed=1, max_tokens=30)[0].text


_LEAVES = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "string", "maxLength": 4}]),
    st.integers(-50, 50).map(lambda low: {"type": "integer", "minimum": low, "maximum": low + 200}),
    st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none()), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.text(max_size=5).map(lambda value: {"const": value}),
)


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.dictionaries(st.text(max_size=6), values, max_size=3)
    return st.builds(
        lambda properties, optional: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name not in optional],
            "additionalProperties": False,
        },
        names,
        st.sets(st.text(max_size=1)),
    )


_SCHEMAS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        inner.map(lambda items: {"type": "array", "items": items, "maxItems": 3}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
    ),
    max_leaves=6,
)


@given(schema=_SCHEMAS, seed=st.integers(0, 1 << 30), temperature=st.sampled_from([0.0, 0.7, 2.0]))
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_schema(model: weft.Model, schema: dict[str, Any], seed: int, temperature: float) -> None:
    answer = model.generate("x", json_schema=schema, seed=seed, temperature=temperature, max_tokens=900)[0]
    assert answer.finish_reason == "stop", answer.text
    jsonschema.validate(json.loads(answer.text), schema)
