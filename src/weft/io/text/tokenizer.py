"""Text to tokens and back, over the `tokenizers` library; streamed tokens become whole characters."""

from __future__ import annotations

import codecs
import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import TokenizerError
from weft.io.text.token_bytes import TokenBytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that begin a text, end it or a turn of it (the first is the main one), and pad it."""

    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None

    @property
    def eos_id(self) -> int | None:
        return self.eos_ids[0] if self.eos_ids else None


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a text, and for each the characters [begin, end) that it stands for (empty: none)."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer:
    """Encodes text to token ids and decodes them. May be called from several threads at once."""

    def __init__(self, raw: RawTokenizer, special: SpecialTokens | None = None) -> None:
        raw.no_truncation()
        raw.no_padding()
        self._raw = raw
        self._plain: RawTokenizer | None = None
        self._plain_lock = threading.Lock()
        self.special = special or SpecialTokens()
        self.token_bytes = TokenBytes(raw)
        self._special_ids = frozenset(
            number for number, token in raw.get_added_tokens_decoder().items() if token.special
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self._raw.get_vocab_size(with_added_tokens=True)

    @property
    def bos_id(self) -> int | None:
        return self.special.bos_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return self.special.eos_ids

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of `text`.

        `add_special` puts the model's start (and end) tokens around it where the model wants them.
        `parse_special` reads spelled-out special tokens ("<|im_end|>") as these tokens; without it they are
        plain text, as text from strangers should be. Raises TokenizerError for invalid Unicode.
        """
        raw = self._raw if parse_special else self._without_special()
        with _encoding_errors():
            ids: list[int] = raw.encode(text, add_special_tokens=add_special).ids
        return ids

    def encode_batch(
        self, texts: Sequence[str], *, add_special: bool = True, parse_special: bool = True
    ) -> list[EncodedText]:
        """`encode` of each text, on the library's own threads, with the place of each token in its text.

        Raises TokenizerError for invalid Unicode in any of them.
        """
        raw = self._raw if parse_special else self._without_special()
        with _encoding_errors():
            encodings = raw.encode_batch(list(texts), add_special_tokens=add_special)
        return [EncodedText(encoding.ids, encoding.offsets) for encoding in encodings]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True, continued: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary nothing.

        `continued`: the ids follow other text, so a blank that the first token carries is kept.
        """
        decoder = StreamDecoder(self, skip_special=skip_special, continued=continued)
        return "".join([decoder.push(number) for number in ids]) + decoder.flush()

    def stream_decoder(self, *, skip_special: bool = True, continued: bool = True) -> StreamDecoder:
        """A decoder for tokens that come one at a time, by default those that follow a prompt."""
        return StreamDecoder(self, skip_special=skip_special, continued=continued)

    def is_special(self, number: int) -> bool:
        """Whether token `number` is a mark of the model rather than text."""
        return number in self._special_ids

    def id_of(self, token: str) -> int | None:
        """The id of the token spelled `token` in the vocabulary, or None."""
        number: int | None = self._raw.token_to_id(token)
        return number

    def token_of(self, number: int) -> str | None:
        """The vocabulary's spelling of token `number`, or None outside the vocabulary."""
        token: str | None = self._raw.id_to_token(number)
        return token

    def to_json(self) -> str:
        """The whole tokenizer as the content of a tokenizer.json."""
        content: str = self._raw.to_str()
        return content

    def save(self, path: Path) -> None:
        """Write tokenizer.json at `path`, whole or not at all. Raises OSError."""
        from weft.io.atomic_file import write_atomically

        write_atomically(path, self.to_json().encode())

    def _without_special(self) -> RawTokenizer:
        # A second object, because the library's switch is a state of the whole tokenizer.
        with self._plain_lock:
            if self._plain is None:
                self._plain = type(self._raw).from_str(self._raw.to_str())
                self._plain.encode_special_tokens = True
            return self._plain


@contextlib.contextmanager
def _encoding_errors() -> Iterator[None]:
    """Turns what the library raises for a text, also its panics, into TokenizerError."""
    try:
        yield
    except (UnicodeEncodeError, TypeError) as error:
        raise TokenizerError(
            f"text of valid Unicode was expected: {error}; remove lone surrogates"
        ) from error
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokenizerError(
            f"a tokenizer that takes any text was expected, this one fails: {reason}; fetch the model again"
        ) from error


class StreamDecoder:
    """Turns tokens into text as they come: each `push` returns the text that is complete by then.

    A character whose bytes are spread over tokens comes with the last of them. The pieces joined, with
    `flush()`, equal `Tokenizer.decode` of the same ids. Costs the same for each token. For one thread.
    """

    __slots__ = ("_at_start", "_decode", "_skip_special", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, continued: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._at_start = not continued and tokenizer.token_bytes.starts_with_space
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def push(self, number: int) -> str:
        """Text that token `number` completes; may be empty."""
        if self._skip_special and self._tokenizer.is_special(number):
            return ""
        content = self._tokenizer.token_bytes(number)
        if self._at_start and content:
            content = content.removeprefix(b" ")
            self._at_start = False
        return self._decode(content)

    def flush(self) -> str:
        """What is left of a character that was never completed, as U+FFFD."""
        return self._decode(b"", final=True)
