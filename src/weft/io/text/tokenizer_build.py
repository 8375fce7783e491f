"""Makes `tokenizers` objects out of vocabularies: byte-level BPE, and the two SentencePiece kinds.

Every builder returns a self-contained `tokenizers.Tokenizer`, so that it can be saved as tokenizer.json.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weft.errors import TokenizerError
from weft.io.text.pre_tokenizers import SplitRule, build_pre_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers.normalizers import Normalizer

# Token types, as SentencePiece and GGUF number them.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE_MARK = "▁"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, with their types and (SentencePiece) scores; `types` and `scores` may be empty."""

    tokens: Sequence[str]
    types: Sequence[int] = ()
    scores: Sequence[float] = ()

    def ids(self) -> dict[str, int]:
        """Token to id. Empty tokens get a name that no text spells; of equal tokens the first counts."""
        ids: dict[str, int] = {}
        for number, token in enumerate(self.tokens):
            ids.setdefault(token or f"[EMPTY_{number}]", number)
        return ids

    def type_of(self, number: int) -> int:
        return self.types[number] if number < len(self.types) else NORMAL


@contextlib.contextmanager
def tokenizer_errors(name: str) -> Iterator[None]:
    """Turn whatever the tokenizers library raises in the block, also its panics, into TokenizerError."""
    try:
        yield
    except TokenizerError:
        raise
    except BaseException as error:
        # A panic of the library is a BaseException of a class that it does not export.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise TokenizerError(
            f"{name}: the tokenizer cannot be built ({reason}): fetch the model again"
        ) from error


def build_byte_level(vocabulary: Vocabulary, merges: Sequence[str], rule: SplitRule) -> RawTokenizer:
    """Byte-level BPE: `merges` are "left right" in order of rank. Raises TokenizerError."""
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers import decoders, models

    ids = vocabulary.ids()
    pairs = [_split_merge(merge) for merge in merges]
    known = [(left, right) for left, right in pairs if left in ids and right in ids and left + right in ids]
    raw = RawTokenizer(models.BPE(vocab=ids, merges=known, fuse_unk=False, ignore_merges=rule.ignore_merges))
    raw.pre_tokenizer = build_pre_tokenizer(rule)
    raw.decoder = decoders.ByteLevel()
    _add_special_tokens(raw, vocabulary)
    return raw


def build_sentencepiece_bpe(vocabulary: Vocabulary, add_space_prefix: bool = True) -> RawTokenizer:
    """SentencePiece's BPE kind: of all neighbours, the pair that joins to the best score merges first."""
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers import decoders, models

    ids = vocabulary.ids()
    raw = RawTokenizer(
        models.BPE(
            vocab=ids,
            merges=_merges_by_score(vocabulary, ids),
            unk_token=_unknown_token(vocabulary),
            fuse_unk=True,
            byte_fallback="<0x00>" in ids,
        )
    )
    raw.normalizer = _space_normalizer(add_space_prefix)
    raw.decoder = decoders.Sequence(_space_decoders(add_space_prefix))
    _add_special_tokens(raw, vocabulary)
    return raw


def build_sentencepiece_unigram(vocabulary: Vocabulary, add_space_prefix: bool = True) -> RawTokenizer:
    """SentencePiece's Unigram kind: the segmentation of highest total score."""
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers import decoders, models

    unknown = next((i for i in range(len(vocabulary.tokens)) if vocabulary.type_of(i) == UNKNOWN), 0)
    scored = list(zip(vocabulary.tokens, vocabulary.scores, strict=True))
    raw = RawTokenizer(models.Unigram(scored, unk_id=unknown, byte_fallback="<0x00>" in vocabulary.tokens))
    raw.normalizer = _space_normalizer(add_space_prefix)
    raw.decoder = decoders.Sequence(_space_decoders(add_space_prefix))
    _add_special_tokens(raw, vocabulary)
    return raw


def add_start_and_end(raw: RawTokenizer, start: int | None, end: int | None) -> None:
    """Make `raw` put the token `start` before, and `end` after, each encoded text (None: nothing)."""
    from tokenizers import processors

    names = {number: raw.id_to_token(number) for number in (start, end) if number is not None}
    marks = [(name, number) for number, name in names.items() if name is not None]
    if not marks:
        return
    before = f"{names[start]}:0 " if start is not None and names[start] else ""
    after = f" {names[end]}:0" if end is not None and names[end] else ""
    single = [part for part in (before.strip(), "$A:0", after.strip()) if part]
    pair = single + [part.replace(":0", ":1").replace("$A", "$B") for part in single]
    raw.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=marks)


def _split_merge(merge: str) -> tuple[str, str]:
    # The blank after the first character: a left part may itself begin with a blank.
    at = merge.find(" ", 1)
    return (merge[:at], merge[at + 1 :]) if at > 0 else ("", "")


def _merges_by_score(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into one, best score first, as ranked merges."""
    if len(vocabulary.scores) < len(vocabulary.tokens):
        raise TokenizerError(
            f"a SentencePiece vocabulary of {len(vocabulary.tokens)} pieces needs a score for each, "
            f"{len(vocabulary.scores)} came: convert the model again"
        )
    ranked: list[tuple[float, int, str, str]] = []
    for number, piece in enumerate(vocabulary.tokens):
        if len(piece) < 2 or vocabulary.type_of(number) not in (NORMAL, USER_DEFINED, UNUSED):
            continue
        score = -vocabulary.scores[number]
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                ranked.append((score, number, left, right))
    ranked.sort(key=lambda merge: (merge[0], merge[1], ids[merge[2]], ids[merge[3]]))
    return [(left, right) for _, _, left, right in ranked]


def _unknown_token(vocabulary: Vocabulary) -> str | None:
    for number, token in enumerate(vocabulary.tokens):
        if vocabulary.type_of(number) == UNKNOWN:
            return token
    return None


def _space_normalizer(add_space_prefix: bool) -> Normalizer:
    from tokenizers import normalizers

    marks = normalizers.Replace(" ", SPACE_MARK)
    return normalizers.Sequence([normalizers.Prepend(SPACE_MARK), marks]) if add_space_prefix else marks


def _space_decoders(add_space_prefix: bool) -> list[object]:
    from tokenizers import decoders

    steps: list[object] = [decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    return [*steps, decoders.Strip(" ", 1, 0)] if add_space_prefix else steps


def _add_special_tokens(raw: RawTokenizer, vocabulary: Vocabulary) -> None:
    """Control and user-defined tokens are found in text before anything else is done with it."""
    from tokenizers import AddedToken

    control, user_defined = [], []
    for number in range(min(len(vocabulary.types), len(vocabulary.tokens))):
        kind, token = vocabulary.types[number], vocabulary.tokens[number]
        if kind in (CONTROL, UNKNOWN) and token:
            control.append(AddedToken(token, normalized=False, special=True))
        elif kind == USER_DEFINED and token:
            user_defined.append(AddedToken(token, normalized=False, special=False))
    raw.add_special_tokens(control)
    raw.add_tokens(user_defined)
