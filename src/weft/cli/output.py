"""Text of models to the terminal: safe, at once, and with its speed."""

from __future__ import annotations

import sys
import time
import unicodedata

from weft.tasks.completion import Completion, Piece

_ALLOWED = "\n\t"


def write_text(text: str) -> None:
    """Writes a model's text to stdout at once; to a terminal without what would control it.

    Raises BrokenPipeError when nobody reads any more.
    """
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def printable(text: str) -> str:
    """`text` without control characters (C0, DEL, C1) and without marks that reorder a line.

    Line ends and tabs stay. What a model writes must not move the cursor, retitle a window or hide text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join([char for char in text if char in _ALLOWED or not _is_control(char)])


def _is_control(char: str) -> bool:
    return unicodedata.category(char) == "Cc" or char in _REORDERING


_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Speedometer:
    """Times an answer: from the request to its first token, and from there to its end."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._first: float | None = None
        self._end = self._begin

    def count(self, piece: Piece) -> None:
        """Notes that `piece` came now."""
        self._end = time.perf_counter()
        if self._first is None and piece.token_ids:
            self._first = self._end

    def numbers(self, completion: Completion) -> dict[str, float]:
        """Tokens, seconds and tokens a second, of the prompt and of the answer after its first token."""
        first = self._first if self._first is not None else self._end
        prompt_s, answer_s = first - self._begin, self._end - first
        answered = len(completion.token_ids)
        return {
            "prompt_tokens": completion.prompt_tokens,
            "prompt_s": round(prompt_s, 6),
            "prompt_tokens_per_s": round(completion.prompt_tokens / prompt_s, 2) if prompt_s > 0 else 0.0,
            "answer_tokens": answered,
            "answer_s": round(answer_s, 6),
            "answer_tokens_per_s": round((answered - 1) / answer_s, 2)
            if answer_s > 0 and answered > 1
            else 0.0,
        }

    def line(self, completion: Completion, threads: int) -> str:
        """The numbers in a line for people."""
        n = self.numbers(completion)
        return (
            f"prompt {n['prompt_tokens']:.0f} tokens, {n['prompt_tokens_per_s']:.1f} tokens/s; "
            f"answer {n['answer_tokens']:.0f} tokens, {n['answer_tokens_per_s']:.1f} tokens/s; "
            f"{threads} thread{'s' if threads != 1 else ''}; seed {completion.seed}; "
            f"{completion.finish_reason}"
        )
