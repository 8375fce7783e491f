"""All data of a run: rows to train on, rows held out, rows to test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.errors import DataError
from weft.io.text.chat_template import ChatTemplate
from weft.io.text.tokenizer import Tokenizer
from weft.train.data.files import DataFile, DataFiles
from weft.train.data.pack import PackedRows, pack_rows
from weft.train.data.split import split_documents
from weft.train.data.token_cache import TokenData, load_tokens
from weft.types import Array


@dataclass(frozen=True)
class Dataset:
    """Packed rows of each split; `valid` and `test` may be missing. key: names all of the content."""

    train: PackedRows
    valid: PackedRows | None
    test: PackedRows | None
    key: str


@dataclass(frozen=True)
class DataSettings:
    """What the rows depend on beside the files; see `TrainConfig` for each."""

    max_seq_length: int
    mask_prompt: bool
    valid_share: float
    seed: int


def load_dataset(
    files: DataFiles,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    vocabulary_size: int,
    settings: DataSettings,
) -> Dataset:
    """The dataset in `files`, tokenized and packed.

    Rows are held out from the training files where the data has no split of its own. Raises DataError.
    """
    length = settings.max_seq_length

    def load(split: list[DataFile]) -> TokenData | None:
        if not split:
            return None
        tokens = load_tokens(split, tokenizer, template, settings.mask_prompt)
        check_vocabulary(tokens, vocabulary_size)
        return tokens

    train, valid, test = load(files.train), load(files.valid), load(files.test)
    assert train is not None
    share = settings.valid_share if valid is None else 0.0
    trained, held_out = split_documents(train, share, settings.seed)
    rows = pack_rows(train, trained, length)
    if not len(rows):
        raise DataError(f"Expected at least two tokens to train on, got {len(train.tokens)}; give more data.")
    if not train.trained.any():
        raise DataError("Expected answers to train on, got prompts alone; leave --mask-prompt out.")
    return Dataset(
        rows,
        _all_rows(valid, length) if valid is not None else _rows(train, held_out, length),
        _all_rows(test, length),
        "+".join(tokens.key for tokens in (train, valid, test) if tokens is not None),
    )


def load_rows(
    files: list[DataFile],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    vocabulary_size: int,
    max_seq_length: int,
    mask_prompt: bool,
) -> PackedRows:
    """All of `files` as packed rows, to evaluate on. Raises DataError."""
    tokens = load_tokens(files, tokenizer, template, mask_prompt)
    check_vocabulary(tokens, vocabulary_size)
    rows = _all_rows(tokens, max_seq_length)
    if rows is None:
        raise DataError(f"Expected at least two tokens, got {len(tokens.tokens)}; give more data.")
    return rows


def check_vocabulary(tokens: TokenData, vocabulary_size: int) -> None:
    """Raises DataError when a token is none of the model's."""
    largest = int(tokens.tokens.max())
    if largest >= vocabulary_size:
        raise DataError(
            f"Expected tokens below the model's vocabulary of {vocabulary_size}, got token {largest}; "
            "use the model's own tokenizer."
        )


def _all_rows(tokens: TokenData | None, length: int) -> PackedRows | None:
    if tokens is None:
        return None
    return _rows(tokens, np.stack([tokens.starts[:-1], tokens.starts[1:]], axis=1), length)


def _rows(tokens: TokenData, spans: Array, length: int) -> PackedRows | None:
    rows = pack_rows(tokens, spans, length)
    return rows if len(rows) else None
