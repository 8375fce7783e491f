"""Examples to token documents: ids, and which of them the model is trained to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from weft.errors import DataError, TokenizerError
from weft.io.text.tokenizer import EncodedText, Tokenizer
from weft.train.data.examples import Example
from weft.train.data.text_parts import text_parts
from weft.types import Array

_BATCH_CHARACTERS = 1 << 22
_BATCH_EXAMPLES = 1024
_BATCH_PARTS = 16  # of a long text


@dataclass(frozen=True)
class TokenDocument:
    """A document as the model sees it: ids i32[n], and whether each is an answer's, bool[n].

    Where nothing is marked as a prompt, all of it is trained. keep_whole: an example that packing should
    not cut, since its answer needs its prompt.
    """

    tokens: Array
    trained: Array
    keep_whole: bool


def tokenize(examples: Iterable[Example], tokenizer: Tokenizer, mask_prompt: bool) -> Iterator[TokenDocument]:
    """The documents of `examples` in their order, encoded in batches. Raises DataError with file and line.

    A text is put between the model's own marks of start and end; a chat template has written its own.
    """
    for batch in _batches(examples):
        for has_marks in (False, True):
            # Neighbours of one kind are encoded together; a file has examples of one kind as a rule.
            if all(example.has_marks is has_marks for example in batch):
                yield from _encode(batch, tokenizer, has_marks, mask_prompt)
                break
        else:
            for example in batch:
                yield from _encode([example], tokenizer, example.has_marks, mask_prompt)


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    iterator = iter(examples)
    while batch := _batch(iterator):
        yield batch


def _batch(examples: Iterator[Example]) -> list[Example]:
    batch, characters = [], 0
    for example in islice(examples, _BATCH_EXAMPLES):
        batch.append(example)
        characters += len(example.text)
        if characters > _BATCH_CHARACTERS:
            break
    return batch


def _encode(
    batch: list[Example], tokenizer: Tokenizer, has_marks: bool, mask_prompt: bool
) -> Iterator[TokenDocument]:
    end_id = None if has_marks else tokenizer.special.eos_id
    parts = [text_parts(example.text) for example in batch]
    whole = [texts[0] for texts in parts if len(texts) == 1]
    try:
        encoded = iter(tokenizer.encode_batch(whole, add_special=not has_marks, parse_special=has_marks))
        for example, texts in zip(batch, parts, strict=True):
            answers = example.answers if mask_prompt else None
            if len(texts) == 1:
                pieces = [_piece(next(encoded), 0, answers)]
            else:
                pieces = _pieces(texts, tokenizer, has_marks, answers)
            yield _document(example, pieces, end_id)
    except TokenizerError as error:
        place = next((example.place for example in batch if not _is_unicode(example.text)), batch[0].place)
        raise DataError(f"{place}: {error}") from error


_Piece = tuple[Array, Array]
"""Ids i32[n], and whether each is an answer's, bool[n]."""
_Answers = tuple[tuple[int, int], ...] | None


def _pieces(texts: list[str], tokenizer: Tokenizer, has_marks: bool, answers: _Answers) -> list[_Piece]:
    """The parts of a long text, behind the model's mark of a start."""
    marks = [] if has_marks else [mark for mark in tokenizer.encode("")[:1] if mark == tokenizer.bos_id]
    pieces = [(np.array(marks, np.int32), np.full(len(marks), answers is None))]
    begin = 0
    for first in range(0, len(texts), _BATCH_PARTS):
        some = texts[first : first + _BATCH_PARTS]
        encoded = tokenizer.encode_batch(some, add_special=False, parse_special=has_marks)
        for text, encoding in zip(some, encoded, strict=True):
            pieces.append(_piece(encoding, begin, answers))
            begin += len(text)
    return pieces


def _piece(encoding: EncodedText, begin: int, answers: _Answers) -> _Piece:
    """What was encoded of a text from character `begin` on."""
    ids = np.asarray(encoding.ids, np.int32)
    if answers is None:
        return ids, np.ones(len(ids), bool)
    starts, ends = np.asarray(encoding.offsets, np.int64).reshape(-1, 2).T + begin
    trained = np.zeros(len(ids), bool)
    for first, last in answers:
        trained |= (ends > first) & (starts < last) & (ends > starts)
    return ids, trained


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _document(example: Example, pieces: list[_Piece], end_id: int | None) -> TokenDocument:
    ids, trained = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    if end_id is not None and (not len(ids) or ids[-1] != end_id):
        ids, trained = np.append(ids, np.int32(end_id)), np.append(trained, True)
    return TokenDocument(ids, trained, example.answers is not None)
