"""One view of a model's files, whatever their format: configuration, tensors, tokenizer, chat template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.io.tensor_source import TensorSource
from weft.io.text.tokenizer import Tokenizer


@dataclass
class Checkpoint:
    """A model as it lies on disk.

    `config`: Hugging Face's config.json terms, also for other formats. `tensors`: Hugging Face names, views
    of the mapped files. `generation_config`: its defaults for sampling, where the model has some.
    `identity`: changes when the files do. May be read from several threads.
    """

    path: Path
    format: str
    config: dict[str, Any]
    tensors: Mapping[str, TensorSource]
    identity: str
    generation_config: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None
    load_tokenizer: Callable[[], Tokenizer] | None = None
    release: Callable[[], None] = lambda: None
    _tokenizer: Tokenizer | None = None

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, built on the first call. Raises TokenizerError."""
        if self._tokenizer is None:
            assert self.load_tokenizer is not None
            self._tokenizer = self.load_tokenizer()
        return self._tokenizer

    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a text: by the generation settings, the configuration, the tokenizer."""
        listed: list[int] = []
        for settings in (self.generation_config, self.config):
            value = settings.get("eos_token_id")
            listed += [v for v in (value if isinstance(value, list) else [value]) if type(v) is int]
        return tuple(dict.fromkeys([*listed, *self.tokenizer().eos_ids]))
