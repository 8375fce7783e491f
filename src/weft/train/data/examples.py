"""Examples: the texts of a file, and which parts of them the model is trained to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weft.errors import DataError, TokenizerError
from weft.io.text.chat_template import ChatTemplate
from weft.train.data.files import DataFile

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A document, conversation, or prompt with its completion.

    answers: characters [begin, end) that answer a prompt; None: all of it is text of one kind. has_marks:
    the text spells special tokens (a chat template wrote them); otherwise what looks like one is plain text,
    and the model's own marks of start and end are put around it. place: file and line, for messages.
    """

    text: str
    place: str
    answers: tuple[tuple[int, int], ...] | None = None
    has_marks: bool = False


def read_examples(file: DataFile, template: ChatTemplate | None) -> Iterator[Example]:
    """The examples of a file in their order. Raises DataError with file and line for what is malformed."""
    from weft.train.data.read_jsonl import read_jsonl
    from weft.train.data.read_table import read_csv, read_parquet
    from weft.train.data.read_text import read_text

    match file.format:
        case ".txt":
            yield from read_text(file)
            return
        case ".jsonl":
            records = read_jsonl(file)
        case ".csv":
            records = read_csv(file)
        case ".npz":
            raise DataError(
                f"{file.path}: expected text, got arrays; pass --model perceptron to learn from numbers."
            )
        case _:
            records = read_parquet(file)
    for place, record in records:
        yield example_of(record, place, template)


def example_of(record: Mapping[str, Any], place: str, template: ChatTemplate | None) -> Example:
    """The example in a record with `messages`, `prompt` and `completion`, or `text`. Raises DataError."""
    if "messages" in record:
        return _conversation(_messages(record["messages"], place), place, template, record.get("tools"))
    if "prompt" in record and "completion" in record:
        prompt, completion = _string(record, "prompt", place), _string(record, "completion", place)
        if template is not None:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
            return _conversation(turns, place, template, None)
        span = (len(prompt), len(prompt) + len(completion))
        return Example(prompt + completion, place, (span,))
    if "text" in record:
        return Example(_string(record, "text", place), place)
    came = ", ".join(list(map(str, record))[:8]) or "none"
    raise DataError(
        f"{place}: expected the fields text, prompt and completion, or messages, got {came}; rename them."
    )


def _string(record: Mapping[str, Any], name: str, place: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise DataError(f"{place}: expected {name} to be text, got {type(value).__name__}; correct the line.")
    return value


def _messages(value: Any, place: str) -> list[Message]:
    messages: list[Message] = value if isinstance(value, list) else []
    if not messages or not all(
        isinstance(item, dict) and isinstance(item.get("role"), str) for item in messages
    ):
        raise DataError(f"{place}: expected messages as a list of role and content; correct the line.")
    if not any(item["role"] == "assistant" for item in messages):
        raise DataError(
            f"{place}: expected an answer of role assistant among the messages, got none; add one."
        )
    return messages


def _conversation(
    messages: Sequence[Message], place: str, template: ChatTemplate | None, tools: Any
) -> Example:
    if template is None:
        raise DataError(
            f"{place}: expected a model with a chat template for messages, got one without; "
            "train a chat model, or use prompt and completion."
        )
    try:
        return Example(*_render(messages, place, _renderer(template, tools)), has_marks=True)
    except TokenizerError as error:
        raise DataError(f"{place}: {error}") from error


def _renderer(template: ChatTemplate, tools: Any) -> Callable[[Sequence[Message], bool], str]:
    return lambda turns, asks: template.render(turns, add_generation_prompt=asks, tools=tools)


def _render(
    messages: Sequence[Message], place: str, render: Callable[[Sequence[Message], bool], str]
) -> tuple[str, str, tuple[tuple[int, int], ...]]:
    """The conversation as text, its place, and the characters of its answers.

    An answer is what the text grows by when the assistant's turn follows the prompt for it; a template that
    rewrites earlier turns leaves only what follows their common beginning.
    """
    text = render(messages, False)
    answers = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        begin = _common_length(render(messages[:index], True) if index else "", text)
        end = _common_length(render(messages[: index + 1], False), text)
        if begin < end:
            answers.append((begin, end))
    return text, place, tuple(answers)


def _common_length(first: str, second: str) -> int:
    """Characters in which the two begin alike."""
    if second.startswith(first):
        return len(first)
    return next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))
