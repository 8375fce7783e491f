"""weft: train, fine-tune and serve language models on CPU cores, with threads.

Names are imported when they are first used, so that `import weft` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.errors import (
        BatchError,
        ConfigError,
        DataError,
        Interrupted,
        ModelFileError,
        ModelNotFoundError,
        OutOfMemoryError,
        PlanError,
        PromptError,
        ThreadError,
        TokenizerError,
        TrainingError,
        UnsupportedError,
        WeftError,
    )
    from weft.runtime import Pool
    from weft.serve.sampling import SamplingParams
    from weft.tasks.completion import Completion, Piece
    from weft.tasks.model import Model, load
    from weft.tasks.train import train, trainer
    from weft.tasks.vectors import VectorModel, load_perceptron
    from weft.train.config import TrainConfig
    from weft.train.report import Callback, StepReport, TrainingResult
    from weft.train.trainer import Trainer

__version__ = "0.1.0"

_PLACES = {
    "BatchError": "weft.errors",
    "Callback": "weft.train.report",
    "Completion": "weft.tasks.completion",
    "ConfigError": "weft.errors",
    "DataError": "weft.errors",
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
    "StepReport": "weft.train.report",
    "ThreadError": "weft.errors",
    "TokenizerError": "weft.errors",
    "TrainConfig": "weft.train.config",
    "Trainer": "weft.train.trainer",
    "TrainingError": "weft.errors",
    "TrainingResult": "weft.train.report",
    "UnsupportedError": "weft.errors",
    "WeftError": "weft.errors",
    "VectorModel": "weft.tasks.vectors",
    "load": "weft.tasks.model",
    "load_perceptron": "weft.tasks.vectors",
    "train": "weft.tasks.train",
    "trainer": "weft.tasks.train",
}

__all__ = [  # noqa: RUF022 - `load` first, as one meets it
    "load",
    "Model",
    "Completion",
    "Piece",
    "SamplingParams",
    "Pool",
    "train",
    "trainer",
    "load_perceptron",
    "VectorModel",
    "TrainConfig",
    "Trainer",
    "Callback",
    "StepReport",
    "TrainingResult",
    "WeftError",
    "BatchError",
    "ConfigError",
    "DataError",
    "Interrupted",
    "ModelFileError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "PlanError",
    "PromptError",
    "ThreadError",
    "TokenizerError",
    "TrainingError",
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
