"""Tokens as texts of their own, for log-probabilities."""

from __future__ import annotations

from typing import Any

from weft.io.text.tokenizer import Tokenizer
from weft.tasks.completion import Completion, Piece


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """The token's text; where its bytes are no whole characters, `bytes:` and the bytes in hexadecimal."""
    content = tokenizer.token_bytes(token)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def token_object(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    """A token with its log-probability, as chat completions give it."""
    content = tokenizer.token_bytes(token)
    return {"token": token_text(tokenizer, token), "logprob": finite(logprob), "bytes": list(content)}


def chosen_tokens(tokenizer: Tokenizer, part: Completion | Piece) -> list[dict[str, Any]]:
    """The tokens of an answer, each with the likeliest ones in its place; `part` has log-probabilities."""
    assert part.logprobs is not None
    alternatives = part.top_logprobs or tuple({} for _ in part.token_ids)
    return [
        token_object(tokenizer, token, logprob)
        | {"top_logprobs": [token_object(tokenizer, *other) for other in others.items()]}
        for token, logprob, others in zip(part.token_ids, part.logprobs, alternatives, strict=True)
    ]


def finite(logprob: float) -> float:
    """`logprob`, with the number that OpenAI gives in place of one that JSON cannot hold."""
    return max(logprob, -9999.0)
