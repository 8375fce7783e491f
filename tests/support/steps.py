"""Inputs of steps over a paged cache whose blocks lie in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from weft.types import BLOCK_TOKENS, Array


class PagedTexts:
    """Texts that grow step by step in a cache of `num_blocks` blocks, given out in an order drawn from
    `seed`.
    """

    def __init__(self, num_blocks: int, seed: int = 0) -> None:
        self.free = list(np.random.default_rng(seed).permutation(num_blocks))
        self.blocks: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}

    def step(self, chunks: Sequence[tuple[int, Sequence[int]]], outputs: str = "all") -> Mapping[str, Array]:
        """Inputs that append to each text its tokens: (text, tokens) each; logits of "all" rows or the
        "last".
        """
        tokens, positions, slots, sequences, table, rows = [], [], [], [], [], []
        for text, new in chunks:
            start = self.lengths.get(text, 0)
            blocks = self._grow(text, start + len(new))
            sequences.append((len(tokens), len(new), start, len(table)))
            for position, token in enumerate(new, start):
                tokens.append(token)
                positions.append(position)
                slots.append(blocks[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS)
            rows += range(len(tokens) - len(new), len(tokens)) if outputs == "all" else [len(tokens) - 1]
            table += blocks
        return {
            "tokens": _column(tokens),
            "positions": _column(positions),
            "slots": _column(slots),
            "sequences": np.array(sequences, np.int32).reshape(-1, 4),
            "block_table": _column(table),
            "output_rows": _column(rows),
        }

    def _grow(self, text: int, length: int) -> list[int]:
        blocks = self.blocks.setdefault(text, [])
        while len(blocks) * BLOCK_TOKENS < length:
            blocks.append(int(self.free.pop()))
        self.lengths[text] = length
        return blocks


def _column(values: Sequence[int]) -> Array:
    return np.array(values, np.int32).reshape(-1, 1)
