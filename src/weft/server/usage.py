"""How many tokens a request took, as OpenAI's API says it."""

from __future__ import annotations

from collections.abc import Iterable

from weft.serve.sequence import Sequence


def usage_of(prompt_tokens: int, answers: Iterable[Sequence]) -> dict[str, int]:
    """Tokens of the prompts, each counted once, and of all answers."""
    answered = sum(len(answer.output) for answer in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answered,
        "total_tokens": prompt_tokens + answered,
    }
