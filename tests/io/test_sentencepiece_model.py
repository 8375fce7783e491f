"""SentencePiece's own file, written here field by field."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from weft.errors import TokenizerError
from weft.io.text.hf_tokenizer import tokenizer_from_folder
from weft.io.text.sentencepiece_model import parse_sentencepiece


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, content: bytes | int | float) -> bytes:
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def model_file(model_type: int = 2, pad_id: int = -1) -> bytes:
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    pieces += [(piece, -float(rank), 1) for rank, piece in enumerate(("ab", "▁ab", "▁", "a", "b", "c"))]
    encoded = b"".join(
        field(1, field(1, text.encode()) + field(2, score) + field(3, kind)) for text, score, kind in pieces
    )
    return encoded + field(2, field(3, model_type) + field(43, pad_id)) + field(3, field(3, 1))


def test_the_file_is_read() -> None:
    model = parse_sentencepiece(model_file(), "m")
    assert (
        model.is_bpe
        and model.add_space_prefix
        and model.pad_id == -1
        and (model.bos_id, model.eos_id) == (1, 2)
    )
    assert model.tokens[259:] == ["ab", "▁ab", "▁", "a", "b", "c"] and model.scores[260] == -1.0
    assert model.types[:4] == [2, 3, 3, 6]


@pytest.mark.parametrize("model_type", [1, 2])
def test_a_folder_with_it_tokenizes(tmp_path: Path, model_type: int) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_file(model_type))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"add_bos_token": true, "bos_token": "<s>", "eos_token": "</s>"}'
    )
    tokenizer = tokenizer_from_folder(tmp_path)
    ids = tokenizer.encode("ab c é")
    assert ids[:2] == [1, 260] and tokenizer.decode(ids) == "ab c é" and tokenizer.eos_ids == (2,)
    assert ids[-2:] == [3 + 0xC3, 3 + 0xA9]


@pytest.mark.parametrize(
    "raw", [b"", b"\x0a", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", field(1, 5), b"\x0b", field(2, b"")]
)
def test_damage_is_refused(raw: bytes) -> None:
    with pytest.raises(TokenizerError):
        parse_sentencepiece(raw, "m")


def test_random_damage_is_survived() -> None:
    rng, whole = random.Random(0), model_file()
    for _ in range(2000):
        data = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            parse_sentencepiece(bytes(data), "m")
        except TokenizerError as error:
            assert "\n" not in str(error)
