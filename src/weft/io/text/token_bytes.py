"""What bytes a token stands for: the basis of decoding, streaming, and constraints on output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
SPACE_MARK = "▁"
_ID_LIMIT = 1 << 32  # what the library takes


def byte_level_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2's `encoder.py`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + rank): byte for rank, byte in enumerate(others)})
    return alphabet


class TokenBytes:
    """The bytes of each token of a tokenizer, found once a token. May be used from several threads.

    `starts_with_space` says that the first token of a text carries a blank that is not in the text.
    """

    def __init__(self, raw: RawTokenizer) -> None:
        self._raw = raw
        self._added = {number: token.content for number, token in raw.get_added_tokens_decoder().items()}
        self._cache: dict[int, bytes] = {}
        self._convert, self.starts_with_space = _convention(_decoder_description(raw))

    def __call__(self, number: int) -> bytes:
        """Bytes of token `number`; none for an id outside the vocabulary."""
        found = self._cache.get(number)
        if found is None:
            found = self._cache[number] = self._find(number)
        return found

    def _find(self, number: int) -> bytes:
        if number in self._added:
            return self._added[number].encode()
        token = self._raw.id_to_token(number) if 0 <= number < _ID_LIMIT else None
        return b"" if token is None else self._convert(token)


def _decoder_description(raw: RawTokenizer) -> list[dict[str, Any]]:
    """The tokenizer's decoder as the list of its steps, in tokenizer.json's terms."""
    if raw.decoder is None:
        return []
    described: dict[str, Any] = json.loads(raw.decoder.__getstate__())
    return described["decoders"] if described["type"] == "Sequence" else [described]


def _convention(steps: list[dict[str, Any]]) -> tuple[Callable[[str], bytes], bool]:
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return _ByteLevel(), False
    if "Metaspace" in kinds or "ByteFallback" in kinds or "Replace" in kinds:
        strips = any(step["type"] == "Strip" and step.get("start", 0) > 0 for step in steps)
        prepends = any(
            step["type"] == "Metaspace" and step.get("prepend_scheme") != "never" for step in steps
        )
        return _sentencepiece, strips or prepends
    if "WordPiece" in kinds:
        return _word_piece, True
    if "BPEDecoder" in kinds:
        return lambda token: token.replace("</w>", " ").encode(), False
    return lambda token: b" " + token.encode(), True


class _ByteLevel:
    def __init__(self) -> None:
        self._alphabet = byte_level_alphabet()

    def __call__(self, token: str) -> bytes:
        try:
            return bytes([self._alphabet[character] for character in token])
        except KeyError:
            return token.encode()


def _sentencepiece(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE_MARK, " ").encode()


def _word_piece(token: str) -> bytes:
    return token[2:].encode() if token.startswith("##") else b" " + token.encode()
