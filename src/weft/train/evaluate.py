"""How well a model predicts held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from weft.io.text.tokenizer import Tokenizer
from weft.train.data.pack import PackedRows
from weft.train.data.slices import Slice, SliceResult, make_slices
from weft.types import Array


@dataclass(frozen=True)
class Evaluation:
    """Over all tokens that count: mean natural-log loss, its exponential, share of likeliest tokens that were
    right, and bits for each byte of text (None where the tokenizer is not known). Of vectors the loss is the
    mean squared error, num_tokens counts them, and the rest is None.
    """

    loss: float
    perplexity: float | None
    accuracy: float | None
    bits_per_byte: float | None
    num_tokens: int


def evaluate(
    run: Callable[[Sequence[Slice]], list[SliceResult]],
    rows: PackedRows,
    rows_per_slice: int,
    max_tokens: int | None = None,
    token_bytes: Array | None = None,
) -> Evaluation:
    """Evaluates on the first `max_tokens` tokens of `rows`, at least one row.

    token_bytes: bytes of text that each token of the vocabulary stands for, i64[V].
    """
    sizes = np.add.reduceat(rows.size, rows.first[:-1])
    count = len(rows)
    if max_tokens is not None:
        count = max(1, min(count, int(np.searchsorted(np.cumsum(sizes), max_tokens, side="right"))))
    results, num_bytes = [], 0
    for first in range(0, count, rows_per_slice):
        slices = make_slices(rows, range(first, min(first + rows_per_slice, count)), rows_per_slice)
        results += run(slices)
        if token_bytes is not None:
            num_bytes += sum(int(token_bytes[s.targets[s.loss_weights > 0]].sum()) for s in slices)
    return summarize(results, num_bytes)


def summarize(results: Sequence[SliceResult], num_bytes: int = 0) -> Evaluation:
    """The results of slices together."""
    num_tokens = sum(result.num_tokens for result in results)
    total = math.fsum(result.loss_sum for result in results)
    loss = total / max(num_tokens, 1)
    correct = [result.num_correct for result in results if result.num_correct is not None]
    if results and not correct:
        return Evaluation(loss, None, None, None, num_tokens)
    return Evaluation(
        loss,
        math.exp(loss) if loss < 700 else math.inf,
        sum(correct) / max(num_tokens, 1),
        total / math.log(2) / num_bytes if num_bytes else None,
        num_tokens,
    )


def bytes_of_tokens(tokenizer: Tokenizer, vocabulary_size: int) -> Array:
    """Bytes of text that each token stands for, i64[V]; marks of the model stand for none."""
    return np.array(
        [
            0 if tokenizer.is_special(number) else len(tokenizer.token_bytes(number))
            for number in range(vocabulary_size)
        ],
        np.int64,
    )
