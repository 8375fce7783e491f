"""Conversations with tools as messages that a chat template can render, whether it knows tools or not."""

from __future__ import annotations

import json
from typing import Any

from weft.server.tools import CALL_BEGIN, CALL_END, Tool
from weft.tasks.chat import Chatter

Plain = dict[str, Any]

_INSTRUCTIONS = """You may call functions to answer the user. Here they are, each as JSON with the schema of \
its parameters:
{tools}
To call one, answer with its name and arguments in this form alone:
<tool_call>
{{"name": "the function's name", "arguments": {{"parameter": "value"}}}}
</tool_call>
Otherwise answer in plain text. What a function returned stands between <tool_response> and \
</tool_response>."""


def prompt_of(chatter: Chatter, messages: list[Plain], tools: list[Tool]) -> list[int]:
    """The conversation with the tools that are offered, by the template where it knows of them."""
    if knows_tools(chatter.template):
        return chatter.tokens(messages, tools=[tool.plain() for tool in tools] or None)
    return chatter.tokens(with_tools(messages, tools))


def knows_tools(template: str | None) -> bool:
    """Whether a chat template describes tools, and calls in the form that answers have here."""
    return template is not None and "tools" in template and CALL_BEGIN.strip() in template


def with_tools(messages: list[Plain], tools: list[Tool]) -> list[Plain]:
    """`messages` for a template that knows no tools: described by the system, calls and results as text."""
    written: list[Plain] = []
    for message in messages:
        plain = _plain(message)
        if written and message["role"] == "tool" and written[-1].get("is_result"):
            written[-1]["content"] += "\n" + plain["content"]
        else:
            written.append(plain)
    if tools:
        described = "\n".join(json.dumps(tool.plain()["function"], ensure_ascii=False) for tool in tools)
        instructions = _INSTRUCTIONS.format(tools=described)
        if written[0]["role"] == "system":
            written[0] = {**written[0], "content": f"{written[0]['content']}\n\n{instructions}"}
        else:
            written.insert(0, {"role": "system", "content": instructions})
    return [{name: value for name, value in plain.items() if name != "is_result"} for plain in written]


def _plain(message: Plain) -> Plain:
    if message["role"] == "tool":
        content = f"<tool_response>\n{message['content']}\n</tool_response>"
        return {"role": "user", "content": content, "is_result": True}
    if calls := message.get("tool_calls"):
        texts = [f"{CALL_BEGIN}{_call_text(call['function'])}{CALL_END}" for call in calls]
        return {"role": message["role"], "content": "\n".join(filter(None, [message["content"], *texts]))}
    return dict(message)


def _call_text(function: Plain) -> str:
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return f'{{"name": {json.dumps(function["name"])}, "arguments": {arguments}}}'
