"""Examples to token documents: ids, and which of them the model is trained to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from weft.errors import DataError, TokenizerError
from weft.io.tokenizer import EncodedText, Tokenizer
from weft.train.data.examples import Example
from weft.types import Array

_BATCH_CHARACTERS = 1 << 22
_BATCH_EXAMPLES = 1024


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
    texts = [example.text for example in batch]
    try:
        encoded = tokenizer.encode_batch(texts, add_special=not has_marks, parse_special=has_marks)
    except TokenizerError as error:
        place = next((example.place for example in batch if not _is_unicode(example.text)), batch[0].place)
        raise DataError(f"{place}: {error}") from error
    end_id = None if has_marks else tokenizer.special.eos_id
    for example, encoding in zip(batch, encoded, strict=True):
        yield _document(example, encoding, end_id, mask_prompt)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _document(
    example: Example, encoding: EncodedText, end_id: int | None, mask_prompt: bool
) -> TokenDocument:
    ids = list(encoding.ids)
    answers = example.answers if mask_prompt else None
    if answers is None:
        trained = np.ones(len(ids), bool)
    else:
        begin, end = np.asarray(encoding.offsets, np.int64).reshape(-1, 2).T
        trained = np.zeros(len(ids), bool)
        for first, last in answers:
            trained |= (end > first) & (begin < last) & (end > begin)
    if end_id is not None and (not ids or ids[-1] != end_id):
        ids.append(end_id)
        trained = np.append(trained, True)
    return TokenDocument(np.asarray(ids, np.int32), trained, example.answers is not None)
