"""Where weft keeps what it fetched and what it computed from it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """The folder of all caches: WEFT_HOME, or weft's folder in the user's cache (XDG_CACHE_HOME)."""
    chosen = os.environ.get("WEFT_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "weft"


def models_folder() -> Path:
    """Fetched models, one folder each."""
    return cache_root() / "models"


def packed_folder() -> Path:
    """Packed weights, one file a model, instruction set and target."""
    return cache_root() / "packed"


def tokens_folder() -> Path:
    """Tokenized training data, one file for each content and tokenizer."""
    return cache_root() / "tokens"
