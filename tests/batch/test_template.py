"""Templates: what they fill in, and what they refuse."""

from __future__ import annotations

import pytest

from weft.batch.config import BatchConfig
from weft.batch.template import Template
from weft.errors import ConfigError, DataError


def test_columns_are_filled_in() -> None:
    template = Template.parse("{{{title}}}: {text} ({year})")
    assert template.columns == ("title", "text", "year")
    assert template.fill({"title": "a", "text": "{year}", "year": 7, "more": None}) == "{a}: {year} (7)"


def test_a_column_of_any_name_is_no_code() -> None:
    row = {"a.b": "1", "x[0]": "2", "__class__": "3"}
    assert Template.parse("{a.b}{x[0]}{__class__}").fill(row) == "123"
    with pytest.raises(DataError, match=r"column 'text\.__class__'"):
        Template.parse("{text.__class__}").fill({"text": "x"})


@pytest.mark.parametrize("text", ["{", "}", "{}", "no hole", "{a:>9}", "{a!r}", "{{a}}", ""])
def test_other_templates_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="name columns as in"):
        Template.parse(text)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, True])
def test_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="correct the row"):
        Template.parse("{a}").fill({"a": value})


def test_settings_fit_together() -> None:
    assert BatchConfig(column="a").prompt_template().fill({"a": "x"}) == "x"
    assert BatchConfig(column="a", template="<{a}{b}>").prompt_template().columns == ("a", "b")
    for wrong in ({"raw": True}, {"system": "x"}, {"id_column": "x"}):
        with pytest.raises(ConfigError, match="--column or --template"):
            BatchConfig(**wrong)
    with pytest.raises(ConfigError, match="leave one out"):
        BatchConfig(column="a", raw=True, system="x")
    with pytest.raises(ConfigError, match=r"a template with \{a\}"):
        BatchConfig(column="a", template="{b}")
