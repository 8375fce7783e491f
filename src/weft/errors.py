"""One tree of exceptions: everything that weft raises on purpose is a `WeftError`.

A message has three parts: what was expected, what came, what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class WeftError(Exception):
    """Base of all errors raised by weft."""


class ConfigError(WeftError, ValueError):
    """A setting or an argument has a value that weft cannot use."""


class ModelFileError(WeftError, ValueError):
    """A model file is damaged, lies about its content, or is of a kind weft does not read."""


class ModelNotFoundError(WeftError, LookupError):
    """No model of that name, folder or file could be found or fetched."""


class TokenizerError(WeftError, ValueError):
    """A tokenizer or a chat template is missing or unusable."""


class PromptError(WeftError, ValueError):
    """A prompt cannot be processed: empty, of unknown tokens, or longer than the context."""


class DataError(WeftError, ValueError):
    """Data is missing, empty, not what its format promises, or does not fit the model."""


class TrainingError(WeftError, RuntimeError):
    """A training run cannot go on: its loss diverged, its folder is in use, damaged or cannot be written."""


class BatchError(WeftError, RuntimeError):
    """A batch cannot go on: its results are in use, damaged, or were made from something else."""


class PlanError(WeftError, ValueError):
    """A plan is inconsistent: shapes, types or operands of its operations do not fit."""


class OutOfMemoryError(WeftError, MemoryError):
    """What was asked for needs more memory than there is."""


class ThreadError(WeftError, RuntimeError):
    """The thread pool cannot be used: closed, forked, or refused by the system."""


class UnsupportedError(WeftError, NotImplementedError):
    """This machine or this build cannot do what was asked for."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while answers were being made; `completions` are those answers as far as they came."""

    def __init__(self, completions: Sequence[Any]) -> None:
        super().__init__(f"interrupted with {len(completions)} answers begun")
        self.completions = list(completions)
