"""Calls of tools in an answer as it comes: which function, then its arguments, piece by piece."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from weft.server.tools import CALL_BEGIN, CALL_END

_HEAD = re.compile(re.escape(CALL_BEGIN) + r'\{"name": "([^"]*)", "arguments": ')
_END = "}" + CALL_END


@dataclass
class Call:
    """A call as far as it has come."""

    id: str
    name: str
    arguments: str = ""
    is_whole: bool = False

    def plain(self) -> dict[str, Any]:
        """The call in the API's words."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass
class ToolReader:
    """Divides the text of an answer, which follows the grammar of calls, into free text and calls."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    _held: str = ""
    _is_text: bool | None = None  # None while it may be either

    def push(self, text: str, *, is_last: bool = False) -> list[dict[str, Any]]:
        """Takes the next piece; gives the deltas of the message that are sure by now."""
        self._held += text
        if self._is_text is None and self._held:
            begins = self._held[: len(CALL_BEGIN)]
            if not CALL_BEGIN.startswith(begins) or (is_last and len(begins) < len(CALL_BEGIN)):
                self._is_text = True
            elif len(begins) == len(CALL_BEGIN):
                self._is_text = False
        if self._is_text:
            return self._take_text()
        return self._take_calls(is_last) if self._is_text is False else []

    @property
    def has_called(self) -> bool:
        """Whether a call is whole."""
        return any(call.is_whole for call in self.calls)

    def _take_text(self) -> list[dict[str, Any]]:
        text, self._held = self._held, ""
        self.text += text
        return [{"content": text}] if text else []

    def _take_calls(self, is_last: bool) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        while True:
            if not self.calls or self.calls[-1].is_whole:
                head = _HEAD.match(self._held.lstrip("\n"))
                if head is None:
                    return deltas
                self._held = self._held.lstrip("\n")[head.end() :]
                self.calls.append(Call("call_" + secrets.token_hex(12), head[1]))
                deltas.append(self._delta(**self.calls[-1].plain()))
            end = self._held.find(_END)
            certain = end if end >= 0 else self._certain_length(is_last)
            arguments, self._held = self._held[:certain], self._held[certain:]
            if arguments:
                self.calls[-1].arguments += arguments
                deltas.append(self._delta(function={"arguments": arguments}))
            if end < 0:
                return deltas
            self._held = self._held[len(_END) :]
            self.calls[-1].is_whole = True

    def _certain_length(self, is_last: bool) -> int:
        """How much of what is held belongs to the arguments: not what may be the begin of their end."""
        if is_last:
            return len(self._held)
        for length in range(min(len(_END) - 1, len(self._held)), 0, -1):
            if _END.startswith(self._held[-length:]):
                return len(self._held) - length
        return len(self._held)

    def _delta(self, **content: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": len(self.calls) - 1, **content}]}
