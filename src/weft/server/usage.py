"""How many tokens a request took, as OpenAI's API says it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from weft.serve.sequence import Sequence


def usage_of(prompt_tokens: int, answers: Iterable[Sequence]) -> dict[str, Any]:
    """Tokens of the prompts, each counted once, and of all answers; and how many the cache held already."""
    answered = reused = 0
    prompts: set[int] = set()
    for answer in answers:
        answered += len(answer.output)
        if id(answer.prompt) not in prompts:  # further choices of one prompt reuse what the first computed
            prompts.add(id(answer.prompt))
            reused += min(answer.num_reused, len(answer.prompt))
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answered,
        "total_tokens": prompt_tokens + answered,
        "prompt_tokens_details": {"cached_tokens": reused},
    }
