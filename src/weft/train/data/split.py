"""Sets data aside that is never trained on."""

from __future__ import annotations

import numpy as np

from weft.train.data.token_cache import TokenData
from weft.types import Array

# From so many documents on, whole ones are held out; of fewer the last part of each. But examples end in an
# answer and in the mark that ends it, which must be learned: they are held out whole, or not at all.
MIN_DOCUMENTS = 20


def split_documents(data: TokenData, share: float, seed: int) -> tuple[Array, Array]:
    """Token ranges i64[n, 2] to train on and to hold out, about `share` of all tokens.

    Which documents are held out depends on their number and the seed alone.
    """
    spans = np.stack([data.starts[:-1], data.starts[1:]], axis=1)
    if share <= 0:
        return spans, spans[:0]
    if len(spans) < MIN_DOCUMENTS:
        if not data.keep_whole.any():
            return _without_ends(spans, share)
        if share * len(spans) < 0.5:
            return spans, spans[:0]
    order = permutation(len(spans), seed, HELD_OUT_STREAM)
    tokens = np.cumsum((spans[:, 1] - spans[:, 0])[order])
    count = int(np.searchsorted(tokens, share * tokens[-1])) + 1
    held_out = np.zeros(len(spans), bool)
    held_out[order[: min(count, len(spans) - 1)]] = True
    return spans[~held_out], spans[held_out]


def _without_ends(spans: Array, share: float) -> tuple[Array, Array]:
    """Each range in two, `share` of it in the second."""
    cuts = spans[:, 1] - np.ceil((spans[:, 1] - spans[:, 0]) * share).astype(np.int64)
    return np.stack([spans[:, 0], cuts], axis=1), np.stack([cuts, spans[:, 1]], axis=1)


HELD_OUT_STREAM = 1 << 62


def permutation(count: int, seed: int, stream: int) -> Array:
    """The numbers below `count` in an order that depends on seed and stream alone: i64[count]."""
    # Raw words of NumPy's Philox are the same in all its versions; its own shuffles need not be.
    generator = np.random.Philox(key=np.array([seed & (1 << 64) - 1, stream], np.uint64))
    return np.argsort(generator.random_raw(count), kind="stable")
