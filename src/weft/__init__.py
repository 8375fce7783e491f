"""weft: train, fine-tune and serve language models on CPU cores, with threads.

Names are imported when they are first used, so that `import weft` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.errors import (
        ConfigError,
        Interrupted,
        ModelFileError,
        ModelNotFoundError,
        OutOfMemoryError,
        PlanError,
        PromptError,
        ThreadError,
        TokenizerError,
        UnsupportedError,
        WeftError,
    )
    from weft.runtime import Pool
    from weft.serve.sampling import SamplingParams
    from weft.tasks.completion import Completion, Piece
    from weft.tasks.model import Model, load

__version__ = "0.1.0"

_PLACES = {
    "Completion": "weft.tasks.completion",
    "ConfigError": "weft.errors",
    "Interrupted": "weft.errors",
    "Model": "weft.tasks.model",
    "ModelFileError": "weft.errors",
    "ModelNotFoundError": "weft.errors",
    "OutOfMemoryError": "weft.errors",
    "Piece": "weft.tasks.completion",
    "PlanError": "weft.errors",
    "Pool": "weft.runtime",
    "PromptError": "weft.errors",
    "SamplingParams": "weft.serve.sampling",
    "ThreadError": "weft.errors",
    "TokenizerError": "weft.errors",
    "UnsupportedError": "weft.errors",
    "WeftError": "weft.errors",
    "load": "weft.tasks.model",
}

__all__ = [  # noqa: RUF022 - `load` first, as one meets it
    "load",
    "Model",
    "Completion",
    "Piece",
    "SamplingParams",
    "Pool",
    "WeftError",
    "ConfigError",
    "Interrupted",
    "ModelFileError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "PlanError",
    "PromptError",
    "ThreadError",
    "TokenizerError",
    "UnsupportedError",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
