"""Turns a conversation into the text that a chat model was trained on, by the template in its files."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.errors import TokenizerError

if TYPE_CHECKING:
    import jinja2

    from weft.io.text.tokenizer import Tokenizer

MAX_TEMPLATE_CHARACTERS = 1 << 17
_MAX_INPUT_CHARACTERS = 1 << 28


class ChatTemplate:
    """A compiled chat template. May be rendered from several threads.

    `source` is Jinja2; it is hostile, so it is compiled in a sandbox and rendered under a budget of steps,
    time and characters. `variables` are what it may ask for beside the conversation, such as bos_token.
    """

    def __init__(self, source: str, variables: Mapping[str, Any] | None = None) -> None:
        self.source = source
        self._variables = dict(variables or {})
        self._template = _compile(source)

    @classmethod
    def of(cls, source: str, tokenizer: Tokenizer) -> ChatTemplate:
        """The template with the special tokens of `tokenizer`. Raises TokenizerError."""
        special = tokenizer.special
        numbers = {"bos_token": special.bos_id, "eos_token": special.eos_id, "pad_token": special.pad_id}
        texts = {name: tokenizer.token_of(number) for name, number in numbers.items() if number is not None}
        return cls(source, {"bos_token": "", "eos_token": ""} | texts)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as text; encode it with `add_special=False`, the template writes its own marks.

        `messages`: dicts of role and content, as the OpenAI API has them. Raises TokenizerError when the
        template refuses them, fails, or takes more than its budget.
        """
        from weft.io.text.template_budget import Budget, measure, spending

        given = {"messages": list(messages), "tools": list(tools) if tools is not None else None, **variables}
        size = measure(given, _MAX_INPUT_CHARACTERS)
        if size > _MAX_INPUT_CHARACTERS:
            raise TokenizerError(f"messages of at most {_MAX_INPUT_CHARACTERS} characters were expected")
        scope = {**self._variables, **given, "add_generation_prompt": add_generation_prompt}
        with spending(Budget(size)), _TemplateErrors("cannot be rendered with these messages"):
            return "".join(self._template.generate(scope))


@functools.lru_cache(maxsize=64)
def _compile(source: str) -> jinja2.Template:
    from weft.io.text.template_budget import Budget, spending

    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise TokenizerError(
            f"a chat template of at most {MAX_TEMPLATE_CHARACTERS} characters was expected, not {len(source)}"
        )
    with spending(Budget(0)), _TemplateErrors("cannot be compiled"):
        return _environment().from_string(source)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    from weft.io.text.template_sandbox import ChatEnvironment

    return ChatEnvironment()


class _TemplateErrors:
    """Turns whatever a template raises into a TokenizerError that says so."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, TokenizerError) or not isinstance(error, Exception):
            return
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise TokenizerError(
            f"the chat template {self._what}: {reason}; correct the messages or give another template"
        ) from error
