"""Conversations: messages to a prompt by the model's template, and what is kept when the context is full."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as List
from typing import Any

from weft.errors import PromptError, TokenizerError
from weft.io.text.chat_template import ChatTemplate
from weft.tasks.completion import Completion
from weft.tasks.generate import Generator, Stream

Message = Mapping[str, Any]
"""A message as the OpenAI API has it: role and content."""

MIN_ANSWER_TOKENS = 256  # room that a conversation leaves for its next answer, where the context allows


class Chatter:
    """Answers conversations by the model's chat template, whose source is `template`. Any thread may use it.

    Raises TokenizerError at the first use where the model has no template.
    """

    def __init__(self, generator: Generator, template: str | None) -> None:
        self.generator = generator
        self.template = template
        self._template: ChatTemplate | None = None

    def chat(self, messages: str | List[Message], adapter: int = 0, **sampling: Any) -> Completion:
        """The answer to a conversation, or to a single text. Up to the end of the context by default."""
        return self.generator.generate(self.tokens(messages), adapter, **{"max_tokens": None, **sampling})[0]

    def stream(self, messages: str | List[Message], adapter: int = 0, **sampling: Any) -> Stream:
        """The same, piece by piece."""
        return self.generator.stream(self.tokens(messages), adapter, **{"max_tokens": None, **sampling})

    def tokens(self, messages: str | List[Message], **variables: Any) -> list[int]:
        """The conversation as token ids, ready for an answer. Raises TokenizerError."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        text = self._compiled().render(messages, add_generation_prompt=True, **variables)
        return self.generator.tokenizer.encode(text, add_special=False)

    def check(self) -> None:
        """Raises TokenizerError where the model has no chat template that can be used."""
        self._compiled()

    def _compiled(self) -> ChatTemplate:
        if self._template is None:
            if self.template is None:
                raise TokenizerError(
                    "Expected a model with a chat template, got one without; use generate, or a chat model."
                )
            self._template = ChatTemplate.of(self.template, self.generator.tokenizer)
        return self._template


class Conversation:
    """A conversation that grows turn by turn and forgets its oldest turns when the context is full.

    num_forgotten: messages that were dropped so far. adapter: number in the model's bank of the one that
    answers the next turn. For one thread at a time.
    """

    def __init__(self, chatter: Chatter, system: str | None = None, adapter: int = 0) -> None:
        self.system = system
        self.turns: list[Message] = []
        self.num_forgotten = 0
        self._chatter = chatter
        self.adapter = adapter

    @property
    def messages(self) -> list[Message]:
        """What the model is shown: the system prompt, then the turns that are kept."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.turns]

    def check(self) -> None:
        """Raises TokenizerError where the model has no chat template that can be used."""
        self._chatter.check()

    def clear(self) -> None:
        """Forgets all turns; the system prompt stays."""
        self.turns.clear()
        self.num_forgotten = 0

    def ask(self, text: str, **sampling: Any) -> Stream:
        """The answer to `text`, piece by piece; `answered` keeps it. Raises PromptError if too long."""
        self.turns.append({"role": "user", "content": text})
        try:
            tokens = self._fitting_tokens()
            return self._chatter.generator.stream(tokens, self.adapter, **{"max_tokens": None, **sampling})
        except BaseException:
            self.turns.pop()
            raise

    def answered(self, text: str) -> None:
        """Keeps an answer, whole or broken off, as the model's turn."""
        self.turns.append({"role": "assistant", "content": text})

    def take_back(self) -> None:
        """Forgets the last message where it has no answer."""
        if self.turns and self.turns[-1]["role"] == "user":
            self.turns.pop()

    def _fitting_tokens(self) -> list[int]:
        """The conversation's tokens after dropping its oldest turns, in pairs, until an answer has room."""
        longest = self._chatter.generator.engine.limits.max_length
        room = min(MIN_ANSWER_TOKENS, longest // 4)
        kept = list(self.turns)
        while True:
            system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
            tokens = self._chatter.tokens([*system, *kept])
            if len(tokens) + room <= longest:
                break
            if len(kept) == 1:
                raise PromptError(
                    f"Expected a message that leaves room for an answer in the context of {longest} "
                    f"tokens, got one of {len(tokens)}; shorten it."
                )
            del kept[:2]
        self.num_forgotten += len(self.turns) - len(kept)
        self.turns = kept
        return tokens
