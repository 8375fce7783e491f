"""The paged KV cache as plain arrays, for the NumPy references of kv_write and attention."""

from __future__ import annotations

import numpy as np

from weft.types import BLOCK_TOKENS, Array, CacheType


class ReferenceCache:
    """Keys and values [layers, slots, kv_heads, head_dim]; slot = block · BLOCK_TOKENS + offset in the block.

    Holds `num_blocks` blocks of zeros at first. Not safe to use from several threads.
    """

    def __init__(self, type_: CacheType, num_blocks: int, dtype: type[np.floating] = np.float64) -> None:
        shape = (type_.layers, num_blocks * BLOCK_TOKENS, type_.kv_heads, type_.head_dim)
        self.keys: Array = np.zeros(shape, dtype)
        self.values: Array = np.zeros(shape, dtype)


def slots_of_positions(block_table: Array, first_block_index: int, num_tokens: int) -> Array:
    """Slots of tokens 0 … num_tokens − 1 of a sequence whose blocks begin at `first_block_index` of the
    table.
    """
    positions = np.arange(num_tokens)
    blocks = block_table[first_block_index + positions // BLOCK_TOKENS, 0].astype(np.int64)
    return np.asarray(blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS)
