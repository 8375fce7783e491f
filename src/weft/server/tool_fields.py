"""The fields of a chat request that offer tools, and what they make of its prompt and its answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from weft.serve.constraint import Constraint, ConstraintKind
from weft.server.answer_format import ConstraintFields, checked
from weft.server.errors import ApiError
from weft.server.tools import MAX_TOOLS, Tool, ToolChoice, tool_constraint


class ToolFields(ConstraintFields, kw_only=True):
    """OpenAI's fields."""

    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def may_call(self) -> bool:
        """Whether the answer may call a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def is_constrained(self) -> bool:
        """Whether there may be a constraint to prepare, which takes its time."""
        return self.may_call or super().is_constrained

    def offered(self) -> list[Tool]:
        """The tools that the model is told of. Raises ApiError for a choice of one that is not there."""
        tools = self.tools or []
        names = [tool.function.name for tool in tools]
        if len(set(names)) < len(names):
            raise ApiError(400, "Expected tools of different names, got one twice; rename it.", param="tools")
        if isinstance(self.tool_choice, ToolChoice) and self.tool_choice.function.name not in names:
            wanted = self.tool_choice.function.name[:80]
            raise ApiError(
                400, f"Expected tool_choice among the tools, got {wanted!r}; offer it.", param="tool_choice"
            )
        if self.tool_choice == "required" and not tools:
            raise ApiError(
                400, "Expected tools with tool_choice 'required', got none; offer some.", param="tool_choice"
            )
        return tools if self.may_call else []

    def constraint(self) -> Constraint | None:
        """What the whole answer must be, calls included. Raises ApiError, with the field."""
        otherwise = super().constraint()
        tools = self.offered()
        if not tools:
            return otherwise
        if otherwise is not None and otherwise.kind is not ConstraintKind.JSON_SCHEMA:
            raise ApiError(
                400, f"Expected tools without {otherwise.kind}, got both; leave one out.", param="tools"
            )
        choice = self.tool_choice
        if isinstance(choice, ToolChoice):
            tools = [tool for tool in tools if tool.function.name == choice.function.name]
        must_call = choice == "required" or isinstance(choice, ToolChoice)
        parallel = self.parallel_tool_calls is not False and not isinstance(choice, ToolChoice)
        schema = otherwise.text if otherwise else None
        return checked(
            "tools",
            lambda: tool_constraint(tools, must_call=must_call, parallel=parallel, otherwise=schema),
        )

    def plain_tools(self) -> list[dict[str, Any]]:
        """The tools that the model is told of, as chat templates have them."""
        return [tool.plain() for tool in self.offered()]
