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


class FlatSchemaFormat(Struct, forbid_unknown_fields=True, tag_field="type", tag="json_schema", kw_only=True):
    """JSON of a schema, as /v1/responses says it."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class GuidedFields(SamplingFields, kw_only=True):
    """Expressions, grammars and schemas as vLLM has them. At most one constraint is given."""

    regex: str | None = None
    guided_regex: str | None = None
    grammar: str | None = None
    guided_grammar: str | None = None
    guided_json: str | dict[str, Any] | None = None

    def given_constraints(self) -> dict[str, Any]:
        """The fields that constrain the answer, those that were given."""
        return {name: value for name in _GUIDED if (value := getattr(self, name)) is not None}

    @property
    def is_constrained(self) -> bool:
        """Whether there may be a constraint to prepare, which takes its time."""
        return bool(self.given_constraints())

    def sampling(self) -> dict[str, Any]:
        """The fields that were given, by the names of `weft.SamplingParams`. Raises ApiError."""
        settings = super().sampling()
        if (constraint := self.constraint()) is not None:
            settings[str(constraint.kind)] = constraint.text
        return settings

    def constraint(self) -> Constraint | None:
        """What the whole answer must be, where that is said. Raises ApiError, with the field."""
        given = self.given_constraints()
        if not given:
            return None
        field, *others = given
        if others:
            raise ApiError(
                400,
                f"Expected one constraint, got {' and '.join(given)}; leave all but one out.",
                param=others[0],
            )
        return checked(field, lambda: _constraint_of(field, given[field]))


class ConstraintFields(GuidedFields, kw_only=True):
    """OpenAI's `response_format` beside them."""

    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None

    def given_constraints(self) -> dict[str, Any]:
        """The fields that constrain the answer, those that were given."""
        return given_format("response_format", self.response_format) | super().given_constraints()


def given_format(field: str, value: Any) -> dict[str, Any]:
    """The format of an answer under its field's name, unless it is free text."""
    return {} if value is None or isinstance(value, TextFormat) else {field: value}


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
        case FlatSchemaFormat():
            return Constraint(ConstraintKind.JSON_SCHEMA, schema_text(value.schema))
    if field == "guided_json":
        return Constraint(ConstraintKind.JSON_SCHEMA, schema_text(value))
    return Constraint(ConstraintKind.REGEX if "regex" in field else ConstraintKind.GRAMMAR, value)


_GUIDED = tuple(
    name for name in GuidedFields.__struct_fields__ if name not in SamplingFields.__struct_fields__
)
