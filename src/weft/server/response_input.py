"""What /v1/responses takes: items of a conversation, functions to call, and the kind of text to answer."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from weft.server.answer_format import FlatSchemaFormat, JsonObjectFormat, TextFormat
from weft.server.errors import ApiError
from weft.server.tools import CalledFunction, Function, FunctionName, Tool

Plain = dict[str, Any]


class InputPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """A part of an item; what only answers have may come back."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputItem(Struct, forbid_unknown_fields=True, kw_only=True):
    """A turn of the conversation, a call that an answer made, or what the function returned.

    Items of an earlier answer may come back as they were.
    """

    type: Literal["message", "function_call", "function_call_output"] = "message"
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    # Of messages.
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[InputPart] | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    # Of calls and what they returned.
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None

    def check(self, place: str) -> None:
        """Raises ApiError where a field is missing, or is another kind's; `place` names the item."""
        wanted, others = _FIELDS_OF[self.type], _ALL - {*_FIELDS_OF[self.type], "phase"}
        for name in wanted:
            if getattr(self, name) is None:
                raise ApiError(
                    400,
                    f"Expected {name} in an item of type {self.type}, got none; add it.",
                    param=f"{place}.{name}",
                )
        for name in others:
            if getattr(self, name) is not None:
                raise ApiError(
                    400,
                    f"Expected an item of type {self.type} without {name}, got one with it; leave it out.",
                    param=f"{place}.{name}",
                )

    def plain(self, place: str) -> Plain:
        """The item as a message of a chat template. Raises ApiError."""
        self.check(place)
        if self.type == "function_call":
            function = CalledFunction(name=self.name or "", arguments=self.arguments or "")
            call = {"type": "function", "function": function.plain(f"{place}.arguments")}
            return {"role": "assistant", "content": "", "tool_calls": [call]}
        if self.type == "function_call_output":
            return {"role": "tool", "content": _text(self.output), "tool_call_id": self.call_id}
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": _text(self.content)}


_FIELDS_OF = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
}
_ALL = {name for names in _FIELDS_OF.values() for name in names}


def messages_of(items: list[InputItem]) -> list[Plain]:
    """The items as messages of a chat template; calls join the turn that they follow. Raises ApiError."""
    messages: list[Plain] = []
    for index, item in enumerate(items):
        plain = item.plain(f"input[{index}]")
        if "tool_calls" in plain and messages and messages[-1]["role"] == "assistant":
            messages[-1].setdefault("tool_calls", []).extend(plain["tool_calls"])
        else:
            messages.append(plain)
    return messages


class FlatFunction(Struct, forbid_unknown_fields=True, kw_only=True):
    """A function that may be called; calls follow the schema of its parameters, strict or not."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """The same in the words of chats."""
        function = Function(name=self.name, description=self.description, parameters=self.parameters)
        return Tool(type="function", function=function)


class NamedFunction(Struct, forbid_unknown_fields=True, kw_only=True):
    """The function that must be called."""

    type: Literal["function"]
    name: str


class TextOptions(Struct, forbid_unknown_fields=True):
    """What kind of text is answered."""

    format: TextFormat | JsonObjectFormat | FlatSchemaFormat | None = None


def _text(content: str | list[InputPart] | None) -> str:
    if isinstance(content, list):
        return "\n".join(part.text for part in content)
    return content or ""
