"""Loss, perplexity, accuracy and bits a byte, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.byte_tokenizer import byte_tokenizer

from weft.train.data.dataset import load_rows
from weft.train.data.files import DataFile
from weft.train.data.slices import SliceResult
from weft.train.evaluate import bytes_of_tokens, evaluate

TEXT = "Fäden, 織"


def rows_of(tmp_path, length):
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8")
    file = DataFile(tmp_path / "t.txt", ".txt")
    return load_rows([file], byte_tokenizer(), None, 258, length, mask_prompt=False)


@pytest.mark.parametrize("length", [3, 64])
def test_an_evaluation_is_what_its_definitions_say(tmp_path, length):
    """The first byte is given, and the mark of the end is a token but no byte of text."""

    def run(slices):
        return [
            SliceResult(2.0 * slice_.num_rows, slice_.num_rows, slice_.num_rows // 2) for slice_ in slices
        ]

    tokenizer = byte_tokenizer()
    rows = rows_of(tmp_path, length)
    found = evaluate(run, rows, 1, token_bytes=bytes_of_tokens(tokenizer, 258))
    num_bytes = len(TEXT.encode())
    assert found.num_tokens == num_bytes  # all but the first, and the end
    assert found.loss == pytest.approx(2.0) and found.perplexity == pytest.approx(math.exp(2.0))
    assert found.bits_per_byte == pytest.approx(2.0 * num_bytes / math.log(2) / (num_bytes - 1))
    assert found.accuracy == pytest.approx(sum(size // 2 for size in rows_sizes(rows)) / num_bytes)


def rows_sizes(rows):
    return np.add.reduceat(rows.size, rows.first[:-1]).tolist()


def test_no_more_tokens_than_asked_for_are_evaluated(tmp_path):
    rows = rows_of(tmp_path, 3)

    def run(slices):
        return [SliceResult(1.0, slice_.num_rows, 0) for slice_ in slices]

    assert [evaluate(run, rows, 2, most).num_tokens for most in (1, 3, 5, 6, 100)] == [3, 3, 3, 6, 11]
