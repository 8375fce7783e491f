"""Long texts in parts: a tokenizer takes a hundred times a text's memory to encode it at once."""

from __future__ import annotations

import re

PART_CHARACTERS = 1 << 18

# Places where what is before and what is after are encoded apart as they are together: around a line end, or
# else a blank, on its own. Byte-level tokenizers cut texts there themselves.
_BORDERS = (re.compile(r"(?<=\S\n)(?=\S)"), re.compile(r"(?<=\S)(?=[ ]\S)"))


def text_parts(text: str, part_characters: int = PART_CHARACTERS) -> list[str]:
    """`text` in parts of once to twice `part_characters`, cut at a line end, or at a blank, or anywhere."""
    parts, begin = [], 0
    while len(text) - begin > 2 * part_characters:
        end = _border(text, begin + part_characters, begin + 2 * part_characters)
        parts.append(text[begin:end])
        begin = end
    return [*parts, text[begin:]]


def _border(text: str, begin: int, end: int) -> int:
    for border in _BORDERS:
        if found := border.search(text, begin, end):
            return found.start()
    return end
