"""Reads `tokenizer.model`, SentencePiece's file, without its library: the few fields that tokenizing needs.

Format: protocol buffers, messages of `sentencepiece_model.proto`; unknown fields are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from weft.errors import TokenizerError
from weft.io.text.tokenizer_build import NORMAL, Vocabulary

MAX_PIECES = 1 << 21
_UNIGRAM, _BPE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass
class SentencePieceModel:
    """What the file says, with SentencePiece's own defaults for what it leaves out."""

    tokens: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    model_type: int = _UNIGRAM
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    add_space_prefix: bool = True
    character_map: bytes = b""

    @property
    def is_bpe(self) -> bool:
        return self.model_type == _BPE

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.tokens, self.types, self.scores)


def parse_sentencepiece(raw: bytes, name: str) -> SentencePieceModel:
    """The model in `raw`; `name` is for messages. Raises TokenizerError."""
    model = SentencePieceModel()
    try:
        for number, value in _fields(memoryview(raw)):
            if number == 1:
                _add_piece(model, _message(value))
            elif number == 2:
                _read_trainer(model, _message(value))
            elif number == 3:
                _read_normalizer(model, _message(value))
    except (ValueError, struct.error, IndexError) as error:
        raise TokenizerError(f"{name} is not a SentencePiece model ({error}): fetch it again") from error
    if not model.tokens or model.model_type not in (_UNIGRAM, _BPE):
        raise TokenizerError(f"{name}: a SentencePiece model of kind Unigram or BPE with pieces was expected")
    return model


def _add_piece(model: SentencePieceModel, message: memoryview) -> None:
    if len(model.tokens) >= MAX_PIECES:
        raise ValueError(f"more than {MAX_PIECES} pieces")
    token, score, kind = "", 0.0, NORMAL
    for number, value in _fields(message):
        if number == 1:
            token = str(_message(value), "utf-8")
        elif number == 2 and isinstance(value, memoryview):
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = value
    model.tokens.append(token)
    model.scores.append(score)
    model.types.append(kind)


def _read_trainer(model: SentencePieceModel, message: memoryview) -> None:
    names = {3: "model_type", 40: "unk_id", 41: "bos_id", 42: "eos_id", 43: "pad_id"}
    for number, value in _fields(message):
        if number in names and isinstance(value, int):
            # Negative int32 values are stored as 64-bit two's complement.
            setattr(model, names[number], value - (1 << 64) if value >> 63 else value)


def _read_normalizer(model: SentencePieceModel, message: memoryview) -> None:
    for number, value in _fields(message):
        if number == 2:
            model.character_map = bytes(_message(value))
        elif number == 3 and isinstance(value, int):
            model.add_space_prefix = bool(value)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value: varints as int, all others as their bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            size, position = _varint(message, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(message) - position:
            raise ValueError("a field reaches beyond the end")
        yield tag >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), position
    raise ValueError("a number of more than 64 bits")
