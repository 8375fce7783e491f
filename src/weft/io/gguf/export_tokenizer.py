"""A tokenizer as metadata of a GGUF file: byte-level BPE, or SentencePiece's BPE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from weft.errors import UnsupportedError
from weft.io.text.pre_tokenizers import name_of_pre_tokenizer
from weft.io.text.tokenizer import Tokenizer
from weft.io.text.tokenizer_build import BYTE, CONTROL, NORMAL, SPACE_MARK, UNKNOWN, UNUSED, USER_DEFINED


def tokenizer_metadata(tokenizer: Tokenizer, vocabulary_size: int) -> dict[str, Any]:
    """The `tokenizer.ggml.*` of a GGUF file. Raises UnsupportedError for kinds that llama.cpp has not."""
    described = json.loads(tokenizer.to_json())
    model = described["model"]
    if model.get("type") != "BPE":
        raise _unknown()
    size = max(vocabulary_size, tokenizer.vocab_size)
    tokens, types = _tokens(described, size)
    merges = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in model["merges"]]
    if _is_sentencepiece(described):
        own = _sentencepiece(described, tokens, types, merges)
    else:
        pre = name_of_pre_tokenizer(described["pre_tokenizer"], bool(model.get("ignore_merges")))
        if pre is None:
            raise _unknown()
        own = {"model": "gpt2", "pre": pre}
        if merges:
            own["merges"] = [" ".join(merge) for merge in merges]
    special, with_marks = tokenizer.special, tokenizer.encode("a")
    named = {"bos": special.bos_id, "eos": special.eos_id, "padding": special.pad_id}
    own |= {"tokens": tokens, "token_type": types}
    own |= {f"{key}_token_id": value for key, value in named.items() if value is not None}
    own["add_bos_token"] = bool(with_marks) and with_marks[0] == special.bos_id
    own["add_eos_token"] = bool(with_marks) and with_marks[-1] in special.eos_ids
    return {f"tokenizer.ggml.{key}": value for key, value in own.items()}


def _unknown() -> UnsupportedError:
    return UnsupportedError(
        "Expected a byte-level or SentencePiece BPE tokenizer of a kind that llama.cpp knows, got another; "
        "export the model as a Hugging Face folder."
    )


def _tokens(described: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Each token's text and type."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    for token, number in described["model"]["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in described["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    return tokens, types


def _steps(part: Mapping[str, Any] | None, list_name: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    return list(part[list_name]) if part["type"] == "Sequence" else [part]


def _is_sentencepiece(described: Mapping[str, Any]) -> bool:
    """Whether blanks become marks and what is unknown bytes, as in SentencePiece; nothing else is done."""
    return bool(described["model"].get("byte_fallback")) and _prefix(described) is not None


def _prefix(described: Mapping[str, Any]) -> bool | None:
    """Whether a text gets a blank before it; None where texts are changed in other ways, too."""
    normalizers = _steps(described["normalizer"], "normalizers")
    splits = _steps(described["pre_tokenizer"], "pretokenizers")
    if not normalizers and len(splits) == 1 and splits[0]["type"] == "Metaspace":
        return None if splits[0].get("split") else splits[0].get("prepend_scheme") != "never"
    kinds = [step["type"] for step in normalizers]
    if splits or kinds not in (["Prepend", "Replace"], ["Replace"]):
        return None
    marks = normalizers[-1]
    is_plain = marks["pattern"] == {"String": " "} and marks["content"] == SPACE_MARK
    return "Prepend" in kinds if is_plain else None


def _sentencepiece(
    described: Mapping[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, ...]]
) -> dict[str, Any]:
    """Ranks as scores: of all neighbours, llama.cpp joins the pair whose token scores best. Marks bytes and
    the unknown token in `types`.
    """
    ranks: dict[str, int] = {}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks) + 1)
    unknown = described["model"].get("unk_token")
    for number, token in enumerate(tokens):
        if token == unknown:
            types[number] = UNKNOWN
        elif len(token) == 6 and token.startswith("<0x") and types[number] == NORMAL:
            types[number] = BYTE
    scores = [float(-ranks.get(token, 0)) for token in tokens]
    return {"model": "llama", "scores": scores, "add_space_prefix": bool(_prefix(described))}
