"""What an answer must be: a regular expression, a JSON schema or a grammar that all of it has to follow.

The languages are those of llguidance, which is imported when the first constraint is made.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from weft.errors import ConfigError, UnsupportedError

MAX_CONSTRAINT_CHARACTERS = 1 << 18
# One blank, or a line end with an indentation: what people and models write between JSON's marks. Without a
# bound a model can go on with blanks for ever.
JSON_WHITESPACE = r"( |\n[ \t]{0,32})?"
# An answer's states may take up to 100 MB (2 kB each). A constraint takes at most about a second to prepare,
# its first mask included, and no later step more than a quarter of that: `(((a{100}){100}){100}){100}` would
# take five seconds of everybody's step.
_LIMITS = {
    "max_lexer_states": 50_000,
    "initial_lexer_fuel": 200_000,
    "step_lexer_fuel": 50_000,
    "verbose_errors": False,
}


class ConstraintKind(StrEnum):
    """The languages, by the names of their settings."""

    REGEX = "regex"
    JSON_SCHEMA = "json_schema"
    GRAMMAR = "grammar"


@dataclass(frozen=True)
class Constraint:
    """A text in one of the languages. `check` it before use."""

    kind: ConstraintKind
    text: str

    def check(self) -> None:
        """Raises ConfigError for what answers cannot be held to; UnsupportedError without llguidance."""
        if len(self.text) > MAX_CONSTRAINT_CHARACTERS:
            raise ConfigError(
                f"Expected {self.kind} of at most {MAX_CONSTRAINT_CHARACTERS} characters, got "
                f"{len(self.text)}; simplify it."
            )
        if reason := _fault(self):
            raise constraint_error(self, reason)

    def source(self) -> str:
        """The constraint in llguidance's own form. Raises ValueError."""
        library = _library()
        match self.kind:
            case ConstraintKind.REGEX:
                return str(library.LLMatcher.grammar_from_regex(self.text))
            case ConstraintKind.JSON_SCHEMA:
                return str(library.LLMatcher.grammar_from_json_schema(self.text, overrides=_JSON_OPTIONS))
            case ConstraintKind.GRAMMAR:
                return str(library.grammar_from("grammar", self.text))


_JSON_OPTIONS = {
    "whitespace_pattern": JSON_WHITESPACE,
    "whitespace_flexible": True,
    "lenient": False,
    "coerce_one_of": False,
}


def schema_text(schema: str | bool | Mapping[str, Any]) -> str:
    """A JSON schema as the text of a JSON object. Raises ConfigError."""
    try:
        content = json.loads(schema) if isinstance(schema, str) else schema
        text = json.dumps(content)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"Expected json_schema as JSON, got another text: {error}; correct it.") from error
    if content is True:
        return "{}"
    if not isinstance(content, Mapping):
        raise ConfigError(f"Expected json_schema to be an object, got {text[:60]}; correct it.")
    return text


def constraint_error(constraint: Constraint, reason: str) -> ConfigError:
    """The error of a constraint that cannot be followed, for a reason that llguidance gives."""
    line = " ".join(reason.split())[:400]
    return ConfigError(f"Expected {constraint.kind} that answers can be held to, got: {line}; correct it.")


def new_matcher(tokenizer: Any, source: str) -> Any:
    """A matcher of llguidance for `source`, over `tokenizer` of llguidance."""
    library = _library()
    return library.LLMatcher(tokenizer, source, log_level=0, limits=_parser_limits())


@functools.lru_cache(maxsize=256)
def _fault(constraint: Constraint) -> str:
    """What is wrong with `constraint`; empty where nothing is."""
    try:
        source = constraint.source()
    except ValueError as error:
        return str(error)
    return str(_library().LLMatcher.validate_grammar(source, limits=_parser_limits())).removeprefix("ERROR: ")


@functools.lru_cache(maxsize=1)
def _parser_limits() -> Any:
    return _library().LLParserLimits(**_LIMITS)


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise UnsupportedError(
            f"Expected the package llguidance for constraints on answers, got {error}; install it."
        ) from error
    return llguidance
