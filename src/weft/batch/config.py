"""What a batch reads and how."""

from __future__ import annotations

from dataclasses import dataclass

from weft.batch.template import Template
from weft.config import setting
from weft.errors import ConfigError


@dataclass(frozen=True)
class BatchConfig:
    """How the requests are made of the input. Raises ConfigError for settings that do not fit together.

    Without column and template the input holds requests in OpenAI's batch format, with them it is a table.
    """

    column: str | None = setting(
        None, "--column", help="Take the prompts from this column of a CSV, JSONL or Parquet file."
    )
    template: str | None = setting(
        None,
        "--template",
        help='Make the prompts of columns, such as "Summarise: {text}"; {{ and }} are braces.',
    )
    id_column: str | None = setting(
        None, "--id-column", help="Take each result's custom_id from this column; by default row-1, row-2..."
    )
    system: str | None = setting(None, "--system", help="With a table: the system text of every prompt.")
    raw: bool = setting(
        False, "--raw", help="With a table: continue each prompt as it is, not as a message of a chat."
    )

    def __post_init__(self) -> None:
        given = [name for name in ("id_column", "system", "raw") if getattr(self, name)]
        if given and not self.is_table:
            flag = given[0].replace("_", "-")
            raise ConfigError(
                f"Expected --{flag} with --column or --template, got it alone; name the prompts' column."
            )
        if self.raw and self.system is not None:
            raise ConfigError("Expected --system or --raw, got both; leave one out.")
        if self.is_table:
            columns = self.prompt_template().columns
            if self.column is not None and self.column not in columns:
                raise ConfigError(
                    f"Expected a template with {{{self.column}}}, got {self.template!r}; put the column in, "
                    "or leave --column out."
                )

    @property
    def is_table(self) -> bool:
        """Whether the input is a table rather than requests."""
        return self.column is not None or self.template is not None

    def prompt_template(self) -> Template:
        """What makes a prompt of a row of the table."""
        if self.template is not None:
            return Template.parse(self.template)
        assert self.column is not None
        return Template((("", self.column),))
