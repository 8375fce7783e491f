"""A small GGUF model that generates: for tests that damage files."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.io.gguf_builder import ARRAY, STRING, U32, ArrayOf, GgufBuilder, tiny_model
from weft.io.text.token_bytes import byte_level_alphabet

VOCABULARY = 320


def tokenizer_entries(**changes: Any) -> list[tuple[str, int, Any]]:
    """Metadata of a tokenizer of bytes; `changes` by the key's last part, None leaves one out."""
    alphabet = {byte: character for character, byte in byte_level_alphabet().items()}
    tokens = [alphabet[byte] for byte in range(256)] + [f"t{number}" for number in range(VOCABULARY - 256)]
    entries: dict[str, tuple[int, Any]] = {
        "model": (STRING, "gpt2"),
        "pre": (STRING, "smollm"),
        "tokens": (ARRAY, ArrayOf(STRING, tokens)),
        "merges": (ARRAY, ArrayOf(STRING, [])),
        "eos_token_id": (U32, 300),
    }
    return [(f"tokenizer.ggml.{key}", *entry) for key, entry in (entries | changes).items() if entry]


def tiny_gguf(**tokenizer: Any) -> GgufBuilder:
    """A builder of the whole model; its numbers are zero but for the norms."""
    builder = tiny_model(tokenizer_entries(**tokenizer), vocab=VOCABULARY)
    ones = np.ones(64, np.float32).tobytes()
    builder.tensors = [
        (name, shape, kind, ones if len(shape) == 1 else data) for name, shape, kind, data in builder.tensors
    ]
    return builder
