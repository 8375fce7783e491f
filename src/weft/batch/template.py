"""Prompts with holes: "Summarise: {text}", filled from the columns of a row."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import ConfigError, DataError

_WAY_OUT = "name columns as in {text}, and write {{ and }} for braces"


@dataclass(frozen=True)
class Template:
    """Pieces of text, each followed by a column's value or by nothing. Values are never looked into."""

    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """The template in `text`. Raises ConfigError."""
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"Expected a template, got {text!r} ({error}); {_WAY_OUT}.") from error
        for _, column, form, conversion in parsed:
            if column == "" or form or conversion:
                raise ConfigError(f"Expected columns alone in braces, got {text!r}; {_WAY_OUT}.")
        template = cls(tuple((literal, column) for literal, column, _, _ in parsed))
        if not template.columns:
            raise ConfigError(f"Expected a template with a column, got {text!r}; {_WAY_OUT}.")
        return template

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        return tuple(dict.fromkeys(column for _, column in self.pieces if column is not None))

    def fill(self, row: Mapping[str, Any]) -> str:
        """The prompt of a row. Raises DataError for a column that is missing, empty or no text or number."""
        return "".join(
            literal if column is None else literal + text_of(row, column) for literal, column in self.pieces
        )


def text_of(row: Mapping[str, Any], column: str) -> str:
    """The value of a column as text. Raises DataError."""
    if column not in row:
        came = ", ".join(list(map(str, row))[:8]) or "none"
        raise DataError(f"Expected a column {column!r}, got {came[:200]}; correct the name.")
    value = row[column]
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise DataError(
        f"Expected text or a number in column {column!r}, got {type(value).__name__}; correct the row."
    )
