"""What a tokenizer.json may ask for: ids, and growth of texts, that no published tokenizer comes near."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weft.errors import TokenizerError
from weft.io.messages import shown

MAX_TOKENS = 1 << 22  # ids; the library's memory grows with the largest one, not with their number
MAX_GROWTH = 256  # times that normalizing may lengthen a text, in characters
_MAX_ADDED_CHARACTERS = 1024


def check_tokenizer_json(content: dict[str, Any], name: str) -> None:
    """Raises TokenizerError where building or using the tokenizer could take memory without bound.

    What is of a wrong type is left to the library, which refuses it.
    """
    largest = max(_ids(content), default=0)
    if largest >= MAX_TOKENS:
        raise TokenizerError(
            f"{name}: token ids below {MAX_TOKENS} were expected, the file has {largest}: fetch it again"
        )
    growth = _growth(content.get("normalizer"), name)
    if growth > MAX_GROWTH:
        raise TokenizerError(
            f"{name}: a normalizer that lengthens texts at most {MAX_GROWTH} times was expected, this one "
            f"can by {growth}: take the model from another source"
        )


def _ids(content: dict[str, Any]) -> Iterator[int]:
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        yield from (number for number in vocabulary.values() if type(number) is int)
    added = content.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        if isinstance(entry, dict) and type(entry.get("id")) is int:
            yield entry["id"]


def _growth(normalizer: object, name: str) -> int:
    """The most characters that one character can become."""
    if not isinstance(normalizer, dict):
        return 1
    growth = 1
    steps = normalizer.get("normalizers")
    for step in steps if isinstance(steps, list) else ():
        growth *= _growth(step, name)
        if growth > MAX_GROWTH:
            return growth
    for key in ("content", "prepend"):
        if isinstance(added := normalizer.get(key), str) and len(added) > _MAX_ADDED_CHARACTERS:
            raise TokenizerError(
                f"{name}: a normalizer that adds at most {_MAX_ADDED_CHARACTERS} characters was expected, "
                f"this one adds {len(added)}, {shown(added[:20])}…: take the model from another source"
            )
    return growth * _replacement_growth(normalizer)


def _replacement_growth(normalizer: dict[str, Any]) -> int:
    content, pattern = normalizer.get("content"), normalizer.get("pattern")
    if not isinstance(content, str):
        return 1
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(literal, str) and literal:
        return max(1, -(-len(content) // len(literal)))
    # A regular expression may match a single character, and the empty text beside it.
    return 1 + len(content)
