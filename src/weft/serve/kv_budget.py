"""How much memory the KV cache takes, and the longest text that it allows."""

from __future__ import annotations

from dataclasses import dataclass

from weft.config import EngineConfig, format_bytes
from weft.errors import OutOfMemoryError
from weft.machine import available_memory
from weft.serve.kv_blocks import blocks_for
from weft.types import BLOCK_TOKENS

DEFAULT_TOKENS = 1 << 16  # of all requests together, where memory allows
DEFAULT_SHARE = 0.5  # of the available memory, at most


@dataclass(frozen=True)
class KvBudget:
    """Blocks of the cache, and the longest text of one request in tokens."""

    num_blocks: int
    max_context: int


def plan_kv_budget(
    config: EngineConfig, model_context: int, token_bytes: int, available_bytes: int | None = None
) -> KvBudget:
    """The cache for a model of `model_context` tokens, of `token_bytes` over all layers.

    Pages are taken when they are first written, so a large budget costs nothing until it is used. Raises
    OutOfMemoryError, with the numbers, where what was asked for cannot fit.
    """
    available = available_memory() if available_bytes is None else available_bytes
    context = min(config.max_context or model_context, model_context)
    block_bytes = token_bytes * BLOCK_TOKENS
    if config.kv_memory_bytes is not None:
        num_blocks = config.kv_memory_bytes // block_bytes
        _check_fits(config.kv_memory_bytes, available, "a KV cache")
    else:
        share = int(available * DEFAULT_SHARE) // block_bytes
        num_blocks = min(blocks_for(max(DEFAULT_TOKENS, context)), share)
        if config.max_context is not None and num_blocks < blocks_for(context):
            num_blocks = blocks_for(context)
            _check_fits(num_blocks * block_bytes, available, f"a context of {context} tokens")
    if num_blocks < 1 or (config.max_context is not None and num_blocks < blocks_for(context)):
        asked = context if config.max_context is not None else BLOCK_TOKENS
        raise OutOfMemoryError(
            f"Expected memory for {asked} tokens of KV cache, {format_bytes(asked * token_bytes)}, got "
            f"{format_bytes(num_blocks * block_bytes)}; raise kv_memory or lower max_context."
        )
    return KvBudget(num_blocks, min(context, num_blocks * BLOCK_TOKENS))


def _check_fits(needed: int, available: int, what: str) -> None:
    if needed > available:
        raise OutOfMemoryError(
            f"Expected {what} to fit in the {format_bytes(available)} of memory that are left, got one of "
            f"{format_bytes(needed)}; lower max_context or kv_memory."
        )
