"""What states of plans are bound to: keys and values of earlier tokens."""

from __future__ import annotations

from weft.runtime.native import native
from weft.types import CacheType


class KvCache:
    """Keys and values of earlier tokens in `num_blocks` blocks of `weft.types.BLOCK_TOKENS` tokens.

    The system gives pages when they are first written. Runs use it without a lock: give each sequence
    blocks of its own. Raises ConfigError for sizes below 1, OutOfMemoryError when it cannot fit.
    """

    def __init__(self, type_: CacheType, num_blocks: int) -> None:
        self.type = type_
        self.num_blocks = num_blocks
        sizes = (type_.layers, type_.kv_heads, type_.head_dim, num_blocks)
        self.handle = native().KvCache(*sizes, dtype=str(type_.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks, used or not."""
        return int(self.handle.nbytes)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        return int(self.handle.block_bytes)

    def copy_block(self, source: int, target: int) -> None:
        """Copies all layers of one block to another. Raises ConfigError when either does not exist."""
        self.handle.copy_block(source, target)
