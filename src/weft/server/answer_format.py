"""Fields of requests that say what an answer must be: JSON, of a schema or not, an expression, a grammar."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from weft.errors import ConfigError
from weft.serve.constraint import Constraint, ConstraintKind, schema_text
from weft.server.errors import ApiError
from weft.server.sampling_fields import SamplingFields

ANY_OBJECT = '{"type": "object"}'


class TextFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Free text."""


class JsonObjectFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_object"):
    """Some JSON object."""


class NamedSchema(Struct, forbid_unknown_fields=True, kw_only=True):
    """A JSON schema. Answers follow all of it, strict or not."""

    name: Annotated[str, Meta(max_length=64)] | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_schema", kw_only=True):
    """JSON of a schema."""

    json_schema: NamedSchema


class ConstraintFields(SamplingFields, kw_only=True):
    """OpenAI's `response_format` and, as vLLM has them, expressions and grammars. At most one is given."""

    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    regex: str | None = None
    guided_regex: str | None = None
    grammar: str | None = None
    guided_grammar: str | None = None
    guided_json: str | dict[str, Any] | None = None

    @property
    def is_constrained(self) -> bool:
        """Whether there may be a constraint to prepare, which takes its time."""
        return any(getattr(self, name) is not None for name in _FIELDS)

    def sampling(self) -> dict[str, Any]:
        """The fields that were given, by the names of `weft.SamplingParams`. Raises ApiError."""
        settings = super().sampling()
        if (constraint := self.constraint()) is not None:
            settings[str(constraint.kind)] = constraint.text
        return settings

    def constraint(self) -> Constraint | None:
        """What the whole answer must be, where that is said. Raises ApiError, with the field."""
        given = [name for name in _FIELDS if getattr(self, name) is not None]
        if isinstance(self.response_format, TextFormat):
            given.remove("response_format")
        if not given:
            return None
        if len(given) > 1:
            raise ApiError(
                400,
                f"Expected one constraint, got {' and '.join(given)}; leave all but one out.",
                param=given[1],
            )
        return checked(given[0], lambda: _constraint_of(given[0], getattr(self, given[0])))


def checked(field: str, make: Any) -> Constraint:
    """The constraint that `make` gives, once it is known to be usable. Raises ApiError that names `field`."""
    try:
        constraint: Constraint = make()
        constraint.check()
    except ConfigError as error:
        raise ApiError(400, f"{field}: {error}", param=field, code="invalid_value") from error
    return constraint


def _constraint_of(field: str, value: Any) -> Constraint:
    match value:
        case JsonObjectFormat():
            return Constraint(ConstraintKind.JSON_SCHEMA, ANY_OBJECT)
        case JsonSchemaFormat():
            schema = value.json_schema.schema
            return Constraint(ConstraintKind.JSON_SCHEMA, "{}" if schema is None else schema_text(schema))
    if field == "guided_json":
        return Constraint(ConstraintKind.JSON_SCHEMA, schema_text(value))
    return Constraint(ConstraintKind.REGEX if "regex" in field else ConstraintKind.GRAMMAR, value)


_FIELDS = tuple(
    name for name in ConstraintFields.__struct_fields__ if name not in SamplingFields.__struct_fields__
)
