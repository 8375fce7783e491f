"""Builds the tokenizer that a GGUF file describes in its `tokenizer.ggml.*` metadata."""

from __future__ import annotations

from weft.errors import TokenizerError
from weft.io.gguf.reader import GgufFile
from weft.io.messages import shown
from weft.io.text.pre_tokenizers import split_rule
from weft.io.text.tokenizer import SpecialTokens, Tokenizer
from weft.io.text.tokenizer_build import (
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    add_start_and_end,
    build_byte_level,
    build_sentencepiece_bpe,
    tokenizer_errors,
)

# Tokens that end a text or a turn in published models: a GGUF file names one end token, chat models use two.
_END_TEXTS = frozenset(
    (
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "<EOT>",
        "[EOT]",
        "</s>",
    )
)


def tokenizer_from_gguf(file: GgufFile) -> Tokenizer:
    """The tokenizer in `file`. Raises TokenizerError when there is none or it is of a kind weft lacks."""
    model = file.metadata.get("tokenizer.ggml.model")
    if model is None or "tokenizer.ggml.tokens" not in file.metadata:
        raise TokenizerError(f"{file.name} carries no tokenizer: use a file that does, or the model's folder")
    if model not in ("gpt2", "llama"):
        raise TokenizerError(
            f"{file.name}: its tokenizer is of kind {shown(model)}, weft builds 'gpt2' (byte-level "
            "BPE) and 'llama' (SentencePiece): use the model's Hugging Face folder with its tokenizer.json"
        )
    vocabulary = _vocabulary(file)
    with tokenizer_errors(file.name):
        return _byte_level(file, vocabulary) if model == "gpt2" else _sentencepiece(file, vocabulary)


def special_tokens_from_gguf(file: GgufFile, vocabulary: Vocabulary) -> SpecialTokens:
    """Ids of start, end and padding; end ids are all that end a text or a turn."""
    size = len(vocabulary.tokens)
    ends = [_token_id(file, key, size) for key in ("eos", "eot", "eom")]
    marks = (CONTROL, USER_DEFINED, UNKNOWN)
    texts = enumerate(vocabulary.tokens)
    ends += [number for number, text in texts if text in _END_TEXTS and vocabulary.type_of(number) in marks]
    distinct = tuple(dict.fromkeys(number for number in ends if number is not None))
    return SpecialTokens(_token_id(file, "bos", size), distinct, _token_id(file, "padding", size))


def _byte_level(file: GgufFile, vocabulary: Vocabulary) -> Tokenizer:
    rule = split_rule(file.text("tokenizer.ggml.pre", "default") or "default")
    raw = build_byte_level(vocabulary, file.strings("tokenizer.ggml.merges"), rule)
    special = special_tokens_from_gguf(file, vocabulary)
    adds_bos = _flag(file, "tokenizer.ggml.add_bos_token", rule.adds_bos)
    adds_eos = _flag(file, "tokenizer.ggml.add_eos_token", False)
    add_start_and_end(raw, special.bos_id if adds_bos else None, special.eos_id if adds_eos else None)
    return Tokenizer(raw, special)


def _sentencepiece(file: GgufFile, vocabulary: Vocabulary) -> Tokenizer:
    raw = build_sentencepiece_bpe(vocabulary, _flag(file, "tokenizer.ggml.add_space_prefix", True))
    special = special_tokens_from_gguf(file, vocabulary)
    adds_bos = _flag(file, "tokenizer.ggml.add_bos_token", True)
    adds_eos = _flag(file, "tokenizer.ggml.add_eos_token", False)
    add_start_and_end(raw, special.bos_id if adds_bos else None, special.eos_id if adds_eos else None)
    return Tokenizer(raw, special)


def _vocabulary(file: GgufFile) -> Vocabulary:
    tokens = file.strings("tokenizer.ggml.tokens")
    types = file.numbers("tokenizer.ggml.token_type")
    scores = file.numbers("tokenizer.ggml.scores")
    for what, values in (("types", types), ("scores", scores)):
        if values is not None and len(values) < len(tokens):
            raise TokenizerError(
                f"{file.name}: {len(tokens)} tokens need as many {what}, not {len(values)}: convert it again"
            )
    return Vocabulary(
        tokens,
        [int(kind) for kind in types] if types is not None else (),
        scores.tolist() if scores is not None else (),
    )


def _token_id(file: GgufFile, key: str, vocabulary_size: int) -> int | None:
    number = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < vocabulary_size:
        return number
    return None


def _flag(file: GgufFile, key: str, default: bool) -> bool:
    value = file.metadata.get(key, default)
    return value if isinstance(value, bool) else default
