"""attention: causal softmax attention of this step's rows over the paged cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.kv_write import check_cache
from weft.ops.operation import Matrix, Operand, Operation, Sizes, cache, expect, matrix, operand_bytes, record
from weft.ops.reference_cache import ReferenceCache, slots_of_positions
from weft.types import Array, CacheType, DType, MatrixType, OperandType

SEQUENCE_COLUMNS = ("first_row", "num_rows", "first_position", "first_block_index")


@dataclass(frozen=True)
class Attention(Operation):
    """out[r, h] = Σ_j softmax_j(scale · q[r, h] · keys[j, h′]) · values[j, h′] over the tokens j that row r
    may see.

    q f32[rows, heads · head_dim] → out like q. h′ = h // (heads // kv_heads). Each row of `sequences`
    i32[sequences, 4] says (first_row, num_rows, first_position, first_block_index): its rows are successive
    tokens from first_position on, and token j lies in block block_table[first_block_index + j // 32],
    i32[blocks, 1]. A row at position p sees tokens p − window + 1 … p, or all up to p where window is 0.
    Vaswani et al., 2017; grouped heads: Ainslie et al., 2023; paged: Kwon et al., 2023.
    """

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int = 0

    name = "attention"
    operands = (
        matrix("q"),
        cache("cache"),
        matrix("sequences", DType.I32),
        matrix("block_table", DType.I32),
    )

    def shape(
        self, q: MatrixType, cache: CacheType, sequences: MatrixType, block_table: MatrixType
    ) -> MatrixType:
        check_cache(self, cache, self.layer, self.kv_heads, self.head_dim)
        shared = self.kv_heads > 0 and self.heads % self.kv_heads == 0
        expect(
            self,
            shared,
            f"heads in groups of {self.kv_heads}",
            self.heads,
            "correct the model's configuration",
        )
        width = self.heads * self.head_dim
        expect(self, q.columns == width, f"{self.heads} heads × {self.head_dim} columns", q, "split q first")
        expect(self, sequences.columns == 4, f"columns {SEQUENCE_COLUMNS}", sequences, "pass all four")
        expect(
            self, block_table.columns == 1, "a block table of one column", block_table, "pass one block a row"
        )
        expect(self, self.window >= 0, "a window of at least 0", self.window, "pass 0 for none")
        return q

    def _context(self, sizes: Sizes) -> float:
        context = sizes["context"]
        return min(context, self.window) if self.window else context

    def flops(self, sizes: Sizes, q: MatrixType, **others: object) -> float:
        return 4.0 * sizes[q.rows] * q.columns * self._context(sizes)

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        cache = types["cache"]
        assert isinstance(cache, CacheType)
        cached = sizes["sequences"] * self._context(sizes) * cache.token_bytes
        return cached + operand_bytes(types["q"], sizes)

    def reference(self, q: Array, cache: ReferenceCache, sequences: Array, block_table: Array) -> Array:
        out = np.zeros_like(q)
        for first_row, num_rows, first_position, first_block_index in sequences.tolist():
            slots = slots_of_positions(block_table, first_block_index, first_position + num_rows)
            rows = slice(first_row, first_row + num_rows)
            keys, values = cache.keys[self.layer, slots], cache.values[self.layer, slots]
            out[rows] = self._attend(q[rows], keys, values, first_position)
        return out

    def _attend(self, q: Array, keys: Array, values: Array, first_position: int) -> Array:
        # heads -> [kv_heads, group, rows, head_dim]; keys, values [kv_heads, 1, tokens, head_dim]
        rows, group = len(q), self.heads // self.kv_heads
        queries = q.reshape(rows, self.kv_heads, group, self.head_dim).transpose(1, 2, 0, 3)
        keys, values = (part.astype(q.dtype).transpose(1, 0, 2)[:, None] for part in (keys, values))
        scores = self.scale * (queries @ keys.swapaxes(-1, -2))
        scores = np.where(self._visible(rows, keys.shape[2], first_position), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ values
        return np.asarray(mixed.transpose(2, 0, 1, 3).reshape(rows, -1))

    def _visible(self, rows: int, tokens: int, first_position: int) -> Array:
        position = first_position + np.arange(rows)[:, None]
        token = np.arange(tokens)[None, :]
        seen = token <= position
        return np.asarray(seen & (token > position - self.window) if self.window else seen)


def attention(
    q: Matrix,
    cache: Operand,
    sequences: Matrix,
    block_table: Matrix,
    layer: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float | None = None,
    window: int = 0,
) -> Matrix:
    """Records attention of `q` f32[rows, heads · head_dim] over a layer of `cache`; gives the same shape.

    `scale` is 1 / sqrt(head_dim) unless given; a `window` above 0 limits how many tokens a row sees.
    """
    op = Attention(layer, heads, kv_heads, head_dim, head_dim**-0.5 if scale is None else scale, window)
    (out,) = record(op, q=q, cache=cache, sequences=sequences, block_table=block_table)
    return out
