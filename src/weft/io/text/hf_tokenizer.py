"""Finds and builds the tokenizer of a Hugging Face model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.errors import TokenizerError
from weft.io.json_file import MAX_JSON_BYTES, parse_json_object, read_bounded, read_json_object
from weft.io.text.pre_tokenizers import split_rule
from weft.io.text.sentencepiece_model import parse_sentencepiece
from weft.io.text.tokenizer import SpecialTokens, Tokenizer
from weft.io.text.tokenizer_build import (
    CONTROL,
    NORMAL,
    USER_DEFINED,
    Vocabulary,
    add_start_and_end,
    build_byte_level,
    build_sentencepiece_bpe,
    build_sentencepiece_unigram,
    tokenizer_errors,
)
from weft.io.text.tokenizer_limits import MAX_TOKENS, check_tokenizer_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer

_VOCABULARY_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def tokenizer_from_folder(folder: Path, config: dict[str, Any] | None = None) -> Tokenizer:
    """The tokenizer in `folder`: tokenizer.json, else tokenizer.model, else vocab.json and merges.txt.

    `config` is the model's config.json, asked last for the special tokens. Raises TokenizerError.
    """
    settings = _optional_json(folder / "tokenizer_config.json")
    special_map = _optional_json(folder / "special_tokens_map.json")
    with tokenizer_errors(str(folder)):
        raw = _raw_tokenizer(folder, settings)
        return Tokenizer(raw, _special_tokens(raw, [settings, special_map], config or {}))


def _raw_tokenizer(folder: Path, settings: dict[str, Any]) -> RawTokenizer:
    from tokenizers import Tokenizer as RawTokenizer

    if (folder / "tokenizer.json").is_file():
        content = read_bounded(folder / "tokenizer.json", MAX_JSON_BYTES)
        check_tokenizer_json(parse_json_object(content, "tokenizer.json"), str(folder / "tokenizer.json"))
        return RawTokenizer.from_buffer(content)
    if (folder / "tokenizer.model").is_file():
        return _from_sentencepiece(folder / "tokenizer.model", settings)
    for vocabulary, merges in _VOCABULARY_FILES:
        if (folder / vocabulary).is_file() and (folder / merges).is_file():
            return _from_vocabulary(folder / vocabulary, folder / merges, settings)
    raise TokenizerError(
        f"{folder} has no tokenizer: tokenizer.json, tokenizer.model, or vocab.json and merges.txt were "
        "expected: fetch the whole model"
    )


def _from_sentencepiece(path: Path, settings: dict[str, Any]) -> RawTokenizer:
    from tokenizers import normalizers

    model = parse_sentencepiece(read_bounded(path, MAX_JSON_BYTES), str(path))
    build = build_sentencepiece_bpe if model.is_bpe else build_sentencepiece_unigram
    raw = build(model.vocabulary, model.add_space_prefix)
    if model.character_map:
        raw.normalizer = normalizers.Sequence([normalizers.Precompiled(model.character_map), raw.normalizer])
    adds_bos, adds_eos = settings.get("add_bos_token", model.is_bpe), settings.get("add_eos_token", False)
    add_start_and_end(
        raw,
        _valid(model.bos_id, model) if adds_bos else None,
        _valid(model.eos_id, model) if adds_eos else None,
    )
    return raw


def _valid(number: int, model: Any) -> int | None:
    return number if 0 <= number < len(model.tokens) else None


def _from_vocabulary(vocabulary: Path, merges: Path, settings: dict[str, Any]) -> RawTokenizer:
    tokens, types = _tokens_by_id(read_json_object(vocabulary), _added_tokens(settings), vocabulary)
    lines = read_bounded(merges, MAX_JSON_BYTES).decode("utf-8", "replace").split("\n")
    ranked = [line for line in lines if line and not line.startswith("#version")]
    name = "qwen2" if str(settings.get("tokenizer_class", "")).startswith("Qwen2") else "gpt-2"
    return build_byte_level(Vocabulary(tokens, types), ranked, split_rule(name))


def _tokens_by_id(
    vocabulary: dict[str, Any], added: dict[int, dict[str, Any]], path: Path
) -> tuple[list[str], list[int]]:
    ids = [*vocabulary.values(), *added]
    if not all(type(number) is int and 0 <= number < MAX_TOKENS for number in ids) or not ids:
        raise TokenizerError(f"{path}: token ids from 0 to {MAX_TOKENS} were expected: fetch the file again")
    tokens = [""] * (max(ids) + 1)
    types = [NORMAL] * len(tokens)
    for token, number in vocabulary.items():
        tokens[number] = token
        if token == "<|endoftext|>":
            types[number] = CONTROL
    for number, entry in added.items():
        tokens[number] = str(entry.get("content", ""))
        types[number] = CONTROL if entry.get("special") else USER_DEFINED
    return tokens, types


def _added_tokens(settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
    entries = settings.get("added_tokens_decoder", {})
    if not isinstance(entries, dict):
        return {}
    return {int(key): entry for key, entry in entries.items() if key.isdecimal() and isinstance(entry, dict)}


def _special_tokens(raw: RawTokenizer, files: list[dict[str, Any]], config: dict[str, Any]) -> SpecialTokens:
    def ids(name: str) -> list[int]:
        for settings in files:
            entry = settings.get(f"{name}_token")
            text = entry.get("content") if isinstance(entry, dict) else entry
            number = raw.token_to_id(text) if isinstance(text, str) else None
            if number is not None:
                return [number]
        listed = config.get(f"{name}_token_id")
        numbers = listed if isinstance(listed, list) else [listed]
        return (
            [n for n in numbers if type(n) is int and raw.id_to_token(n) is not None]
            if listed is not None
            else []
        )

    bos, eos, pad = ids("bos"), ids("eos"), ids("pad")
    return SpecialTokens(bos[0] if bos else None, tuple(eos), pad[0] if pad else None)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
