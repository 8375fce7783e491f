"""Functions that a client offers to the model, and the grammar of answers that call them.

A call is written as Nous Research's Hermes models and Qwen's do:

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Lyon"}}
    </tool_call>
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from weft.serve.constraint import JSON_WHITESPACE, Constraint, ConstraintKind
from weft.server.errors import ApiError

CALL_BEGIN = "<tool_call>\n"
CALL_END = "\n</tool_call>"
MAX_TOOLS = 128
_MOST_CALLS = 16
# Free text is whatever does not begin as a call does.
_FREE_TEXT = r"/(([^<]|<[^t]|<t[^o])(.|\n)*)?|<t?/"

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+$", min_length=1, max_length=64)]


class Function(Struct, forbid_unknown_fields=True, kw_only=True):
    """A function; `parameters` is the JSON schema of its arguments, which calls follow, strict or not."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, forbid_unknown_fields=True, kw_only=True):
    """What may be called."""

    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        """The tool as chat templates have it."""
        function: dict[str, Any] = {"name": self.function.name}
        if self.function.description is not None:
            function["description"] = self.function.description
        return {"type": "function", "function": function | {"parameters": self.schema}}

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return self.function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}


class FunctionChoice(Struct, forbid_unknown_fields=True):
    """The name of a function."""

    name: str


class ToolChoice(Struct, forbid_unknown_fields=True, kw_only=True):
    """The function that must be called."""

    type: Literal["function"]
    function: FunctionChoice


class CalledFunction(Struct, forbid_unknown_fields=True, kw_only=True):
    """A function with its arguments, JSON as a text."""

    name: str
    arguments: str

    def plain(self, param: str = "messages") -> dict[str, Any]:
        """The call as chat templates have it. Raises ApiError that names `param` where they are not JSON."""
        try:
            arguments = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ApiError(
                400,
                f"Expected arguments of calls as JSON, got another text: {error}; correct them.",
                param=param,
            ) from None
        return {"name": self.name, "arguments": arguments}


class ToolCall(Struct, forbid_unknown_fields=True, kw_only=True):
    """A call that an earlier answer made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


def tool_constraint(
    tools: list[Tool], *, must_call: bool, parallel: bool, otherwise: str | None
) -> Constraint:
    """The grammar of answers that call some of `tools`, or where they need not, are free text.

    parallel: several calls may follow each other. otherwise: a JSON schema, in place of free text.
    """
    any_call = " | ".join(f"call_{i}" for i in range(len(tools)))
    more = f" ({_quoted(chr(10))} call){{0,{_MOST_CALLS - 1}}}" if parallel else ""
    lines = [f"calls: call{more}", f"call: {_quoted(CALL_BEGIN)} ({any_call}) {_quoted(CALL_END)}"]
    for i, tool in enumerate(tools):
        head = f'{{"name": "{tool.function.name}", "arguments": '
        lines.append(f"call_{i}: {_quoted(head)} arguments_{i} {_quoted('}')}")
        lines.append(f"arguments_{i}: {_json_rule(tool.schema)}")
    if must_call:
        lines.insert(0, "start: calls")
    elif otherwise is None:
        lines = ["start: TEXT | calls", f"TEXT: {_FREE_TEXT}", *lines]
    else:
        lines = ["start: answer | calls", f"answer: {_json_rule(json.loads(otherwise))}", *lines]
    return Constraint(ConstraintKind.GRAMMAR, "\n".join(lines))


def _json_rule(schema: dict[str, Any]) -> str:
    guidance = {"whitespace_pattern": JSON_WHITESPACE, "lenient": False, "coerce_one_of": False}
    return "%json " + json.dumps({**schema, "x-guidance": guidance})


def _quoted(text: str) -> str:
    return json.dumps(text)
