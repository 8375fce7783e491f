"""Constraints: what is refused, by which reason, and which texts they let through."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from tests.support.byte_tokenizer import END, byte_tokenizer
from weft.errors import ConfigError
from weft.serve.constraint import Constraint, ConstraintKind, schema_text
from weft.serve.masks import MaskTable
from weft.serve.matchers import Matcher, MatcherFactory
from weft.serve.sampling import SamplingParams

VOCABULARY = 258
FACTORY = MatcherFactory(byte_tokenizer(), VOCABULARY, [END])
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def json_constraint(schema: dict[str, Any]) -> Constraint:
    return Constraint(ConstraintKind.JSON_SCHEMA, schema_text(schema))


def accepts(constraint: Constraint, text: str) -> bool:
    handle, tokens = FACTORY.new(constraint).handle, list(text.encode())
    return handle.try_consume_tokens(tokens) == len(tokens) and handle.is_accepting()


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"if": {}, "then": {}}, "if"),
        ({"type": "string", "format": "zip code"}, "zip code"),
        ({"properties": {"a": {"type": "number of sorts"}}}, "number of sorts"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
        ({"not": {}, "x-guidance": {"lenient": True}}, "not"),
    ],
)
def test_what_a_schema_cannot_have_is_named(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SamplingParams(json_schema=schema)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"regex": "a("}, "regex"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"grammar": 'start: "a" b'}, "unknown name"),
        ({"grammar": ""}, "grammar"),
        ({"json_schema": "{"}, "json_schema"),
        ({"json_schema": "[]"}, "json_schema"),
        ({"json_schema": "[" * 100_000}, "json_schema"),
        ({"json_schema": {"enum": ["x" * (1 << 18)]}}, "characters"),
        ({"regex": "a", "grammar": 'start: "a"'}, "one of"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"regex": 3}, "regex"),
    ],
)
def test_what_cannot_be_followed_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SamplingParams(**settings)


@pytest.mark.parametrize("regex", [r"(((a{100}){100}){100}){100}", r"(a{1000}){1000}"])
def test_what_takes_too_long_to_follow_is_refused_before_it_runs(regex: str) -> None:
    begin = time.thread_time()
    with pytest.raises(ConfigError, match="too many expressions"):
        FACTORY.new(Constraint(ConstraintKind.REGEX, regex))
    assert time.thread_time() - begin < 4, "a second on a processor of 2023"


def test_schema_may_be_a_mapping_or_its_text() -> None:
    assert SamplingParams(json_schema=SCHEMA) == SamplingParams(json_schema=json.dumps(SCHEMA))
    assert SamplingParams(json_schema=True).constraint == json_constraint({})


@pytest.mark.parametrize("text", ['{"a":1}', '{"a": 1}', '{\n  "a": 1\n}', '{ "a" : 1 }'])
def test_json_may_be_written_as_people_do(text: str) -> None:
    assert accepts(json_constraint(SCHEMA), text)


@pytest.mark.parametrize("text", ['{"a":  1}', '{"a":\n\n1}', ' {"a":1}', '{"a":1}\n', '{"a":\t1}'])
def test_blanks_are_bounded(text: str) -> None:
    assert not accepts(json_constraint({**SCHEMA, "x-guidance": {"whitespace_pattern": "[ \\n]*"}}), text)


def test_grammars_of_both_languages() -> None:
    for text in ('root ::= "a" [0-9]+', 'start: "a" /[0-9]+/'):
        constraint = Constraint(ConstraintKind.GRAMMAR, text)
        assert accepts(constraint, "a12") and not accepts(constraint, "a")


class RecordingGate:
    """A gate that knows whether it is closed."""

    def __init__(self) -> None:
        self.pending = 0

    def begin(self) -> None:
        self.pending += 1

    def end(self) -> None:
        self.pending -= 1


def allowed(table: MaskTable, seat: int) -> list[int]:
    words = table.words.reshape(-1, table.row_words)[seat]
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:VOCABULARY]
    return np.flatnonzero(bits).tolist()


@pytest.fixture
def table() -> MaskTable:
    return MaskTable(RecordingGate(), 4, VOCABULARY, 8)


def new(regex: str) -> Matcher:
    return FACTORY.new(Constraint(ConstraintKind.REGEX, regex))


def test_masks_of_one_and_of_several(table: MaskTable) -> None:
    first, second = new("a[bc]"), new("x?")
    table.write([first], [2])
    table.write([first, second], [2, 0], None)
    table.write([first], [1], [[ord("a")]])
    table.close()
    assert allowed(table, 2) == [ord("a")]
    assert allowed(table, 0) == [ord("x"), END]
    assert allowed(table, 1) == [ord("b"), ord("c")] and allowed(table, 3) == []
    assert table._gate.pending == 0 and first.error is None


def test_masks_after_tokens_of_several(table: MaskTable) -> None:
    first, second = new("ab"), new("xyz")
    table.write([first, second], [0, 1], [[ord("a")], [ord("x"), ord("y")]])
    table.write([first, second], [0, 1], [[ord("b")], []])
    table.close()
    assert allowed(table, 0) == [END] and allowed(table, 1) == [ord("z")]


@pytest.mark.parametrize("both", [False, True])
def test_a_token_that_does_not_fit_is_an_error_of_its_request(table: MaskTable, both: bool) -> None:
    good, bad = new("ab"), new("ab")
    table.write([bad, good] if both else [bad], [0, 1] if both else [0], [[ord("q")], [ord("a")]][: 1 + both])
    table.close()
    assert isinstance(bad.error, ConfigError) and good.error is None
    assert len(allowed(table, 0)) == VOCABULARY, "the step goes on, its token is dropped"
    assert table._gate.pending == 0


def test_a_fault_of_the_writer_opens_the_gate(table: MaskTable) -> None:
    broken = Matcher(Constraint(ConstraintKind.REGEX, "a"), object())
    table.write([broken], [0], [[1]])
    table.close()
    assert broken.error is not None and table._gate.pending == 0


def test_masks_after_each_token_of_a_draft(table: MaskTable) -> None:
    first, second = new("ab[cd]e"), new("xyz")
    table.write([first, second], [0, 1])
    table.settle()
    assert first.allowed([ord(c) for c in "abq"]) == [ord("a"), ord("b")]
    table.write_drafts([first, second], [[ord("a"), ord("b")], [ord("x")]], [0, 3])
    table.close()
    assert allowed(table, 4 + 1) == [ord("b")] and allowed(table, 4 + 2) == [ord("c"), ord("d")]
    assert allowed(table, 4 + 4) == [ord("y")] and allowed(table, 4 + 3) == [], "its own row has its seat's"
    assert (first.num_followed, second.num_followed) == (2, 1)
    assert first.handle.validate_tokens([ord("a")]) == 1, "it stands where its answer does"


@pytest.mark.parametrize("broken", [False, True])
def test_a_draft_that_cannot_be_followed_harms_nobody(table: MaskTable, broken: bool) -> None:
    bad = Matcher(Constraint(ConstraintKind.REGEX, "a"), object()) if broken else new("abc")
    good = new("ab")
    table.write_drafts([bad, good], [[ord("a"), ord("q"), ord("c")], [ord("a")]], [0, 4])
    table.close()
    assert bad.error is None and bad.num_followed == (0 if broken else 1)
    assert len(allowed(table, 4 + 3)) == VOCABULARY, "the step goes on, its tokens are dropped"
    assert good.num_followed == 1 and allowed(table, 4 + 5) == [ord("b")]
    assert table._gate.pending == 0


def test_matchers_are_independent() -> None:
    constraint = Constraint(ConstraintKind.REGEX, "ab")
    first, second = FACTORY.new(constraint), FACTORY.new(constraint)
    assert first.handle.consume_token(ord("a"))
    assert second.handle.try_consume_tokens([ord("a"), ord("b")]) == 2


def test_a_model_without_an_end_cannot_be_constrained() -> None:
    with pytest.raises(ConfigError, match="ends a text"):
        MatcherFactory(byte_tokenizer(), VOCABULARY, []).new(Constraint(ConstraintKind.REGEX, "a"))
