"""A stand-in for the `tokenizers` library where it has no wheel: the ids of a tokenizer.json, no texts."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary."""

    content: str
    special: bool


class Decoder:
    """A decoder that can say only what it is."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._description = description

    def __getstate__(self) -> bytes:
        return json.dumps(self._description).encode()


class PlainTokenizer:
    """What weft asks of a tokenizer to answer prompts that are token ids."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        described = json.loads(content)
        self._added = {
            entry["id"]: AddedToken(entry["content"], entry["special"]) for entry in described["added_tokens"]
        }
        self._tokens = {number: token for token, number in described["model"]["vocab"].items()}
        self.decoder = Decoder(described["decoder"])

    @classmethod
    def from_buffer(cls, content: bytes) -> PlainTokenizer:
        return cls(content)

    def no_truncation(self) -> None: ...

    def no_padding(self) -> None: ...

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        return self._added

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        return len(self._tokens.keys() | self._added.keys())

    def id_to_token(self, number: int) -> str | None:
        added = self._added.get(number)
        return added.content if added else self._tokens.get(number)

    def token_to_id(self, token: str) -> int | None:
        return next((n for n in [*self._added, *self._tokens] if self.id_to_token(n) == token), None)

    def to_str(self) -> str:
        return self._content.decode()


def install() -> None:
    """Gives `import tokenizers` the stand-in, in this process."""
    module: Any = ModuleType("tokenizers")
    module.Tokenizer = PlainTokenizer
    module.decoders = module.models = module.pre_tokenizers = ModuleType("unused")
    sys.modules["tokenizers"] = module
