"""Tools that a request offers to the model, and what they make of its prompt and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from weft.serve.constraint import Constraint, ConstraintKind
from weft.server.answer_format import ConstraintFields, checked
from weft.server.errors import ApiError
from weft.server.tools import MAX_TOOLS, Tool, ToolChoice, tool_constraint

Choice = Literal["none", "auto", "required"]


@dataclass(frozen=True)
class ToolOffer:
    """Tools by different names. named: the function that must be called, whatever `choice` says."""

    tools: list[Tool]
    choice: Choice = "auto"
    named: str | None = None
    parallel: bool = True

    @property
    def may_call(self) -> bool:
        """Whether the answer may call a tool."""
        return bool(self.tools) and (self.named is not None or self.choice != "none")

    @property
    def must_call(self) -> bool:
        """Whether the answer is calls alone."""
        return self.named is not None or self.choice == "required"

    def offered(self) -> list[Tool]:
        """The tools that the model is told of. Raises ApiError for a choice of one that is not there."""
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ApiError(400, "Expected tools of different names, got one twice; rename it.", param="tools")
        if self.named is not None and self.named not in names:
            wanted = self.named[:80]
            raise ApiError(
                400, f"Expected tool_choice among the tools, got {wanted!r}; offer it.", param="tool_choice"
            )
        if self.must_call and not names:
            raise ApiError(
                400, "Expected tools with tool_choice 'required', got none; offer some.", param="tool_choice"
            )
        return self.tools if self.may_call else []

    def constraint(self, otherwise: Constraint | None) -> Constraint | None:
        """What the whole answer must be, calls included, or `otherwise`. Raises ApiError, with the field."""
        tools = self.offered()
        if not tools:
            return otherwise
        if otherwise is not None and otherwise.kind is not ConstraintKind.JSON_SCHEMA:
            raise ApiError(
                400, f"Expected tools without {otherwise.kind}, got both; leave one out.", param="tools"
            )
        if self.named is not None:
            tools = [tool for tool in tools if tool.function.name == self.named]
        parallel = self.parallel and self.named is None
        schema = otherwise.text if otherwise else None
        return checked(
            "tools",
            lambda: tool_constraint(tools, must_call=self.must_call, parallel=parallel, otherwise=schema),
        )


class ToolFields(ConstraintFields, kw_only=True):
    """OpenAI's fields for tools in chats."""

    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Choice | ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def offer(self) -> ToolOffer:
        """The tools that are offered."""
        choice, parallel = self.tool_choice or "auto", self.parallel_tool_calls is not False
        if isinstance(choice, ToolChoice):
            return ToolOffer(self.tools or [], named=choice.function.name, parallel=parallel)
        return ToolOffer(self.tools or [], choice, parallel=parallel)

    @property
    def is_constrained(self) -> bool:
        """Whether there may be a constraint to prepare, which takes its time."""
        return self.offer.may_call or super().is_constrained

    def constraint(self) -> Constraint | None:
        """What the whole answer must be, calls included. Raises ApiError, with the field."""
        return self.offer.constraint(super().constraint())
