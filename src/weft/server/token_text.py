"""Tokens as texts of their own, for log-probabilities."""

from __future__ import annotations

from typing import Any

from weft.io.tokenizer import Tokenizer


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


def finite(logprob: float) -> float:
    """`logprob`, with the number that OpenAI gives in place of one that JSON cannot hold."""
    return max(logprob, -9999.0)
