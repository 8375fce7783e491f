"""Texts with a gap: how a model that was trained to fill gaps is asked for what belongs there."""

from __future__ import annotations

from weft.errors import PromptError
from weft.io.text.tokenizer import Tokenizer

# The tokens before the text that comes first, before the text that follows the gap, and before the answer.
_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek-Coder
)


def fill_in_prompt(tokenizer: Tokenizer, prefix: str | list[int], suffix: str) -> list[int]:
    """Token ids that ask for what belongs between `prefix` and `suffix` (Bavarian et al., 2022, PSM).

    Raises PromptError for a model that has no marks for that.
    """
    for names in _MARKS:
        before, after, gap = map(tokenizer.id_of, names)
        if before is not None and after is not None and gap is not None:
            begin = tokenizer.encode("", parse_special=False)
            first = _plain(tokenizer, prefix) if isinstance(prefix, str) else prefix
            return [*begin, before, *first, after, *_plain(tokenizer, suffix), gap]
    raise PromptError(
        "Expected no suffix for a model whose tokenizer has no marks for gaps, got one; leave it out."
    )


def _plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)
