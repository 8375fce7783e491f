"""Adapters that a model answers with: loaded by name, at any time, beside its own weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from weft.errors import ConfigError, ModelFileError, ModelNotFoundError, UnsupportedError
from weft.io.json_file import read_json_object
from weft.models.adapter_bank import AdapterBank, AdapterWeights
from weft.models.config import ModelConfig, TokenModelConfig
from weft.ops.low_rank import MAX_RANK
from weft.train.adapters import CONFIG_FILE, adapter_folder, is_adapter, load_adapter


class Adapters:
    """Names of adapters and their numbers in the model's bank, which only grows. For one thread at a time."""

    def __init__(self) -> None:
        self.bank = AdapterBank()
        self.default: str | None = None  # answers where a request names none
        self._numbers: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are loaded, in their order."""
        return tuple(self._numbers)

    def number(self, name: str | None) -> int:
        """The number of the adapter `name`, or of the default one; 0 for none. Raises ConfigError."""
        name = self.default if name is None else name
        if name is None:
            return 0
        if name not in self._numbers:
            known = ", ".join(self._numbers) or "none"
            raise ConfigError(f"Expected an adapter among {known}, got {name!r}; load it first.")
        return self._numbers[name]

    def check_new(self, name: str) -> None:
        """Raises ConfigError for a name that cannot be an adapter's, or is one already."""
        if not name or name in self._numbers:
            came = "one that is taken" if name else "an empty one"
            raise ConfigError(f"Expected a name for the adapter, got {came} ({name!r}); choose another.")

    def add(self, name: str, adapter: AdapterWeights) -> None:
        """Takes an adapter in."""
        self.check_new(name)
        self.bank = AdapterBank((*self.bank.adapters, adapter))
        self._numbers[name] = len(self.bank.adapters)


def base_and_adapter(
    model: str | os.PathLike[str], adapter: str | os.PathLike[str] | None
) -> tuple[str | os.PathLike[str], str | os.PathLike[str] | None]:
    """The model to load and its adapter where `model` may be an adapter's folder, or a run's.

    Raises ModelNotFoundError for a run without a result, ConfigError for two adapters.
    """
    path = Path(model)
    if not path.is_dir():
        return model, adapter
    # Not above: it brings all settings of training, which a model's name does not need.
    from weft.train.run_folder import RunFolder

    result = path / "final" if RunFolder.holds_run(path) else path
    if result != path and not result.is_dir():
        raise ModelNotFoundError(
            f"{path}: expected a run that is done, got one without a result; go on with "
            f"`weft train --resume {path}`, or take its newest checkpoint by `weft export --hf`."
        )
    if not is_adapter(result):
        return model, adapter
    if adapter is not None:
        raise ConfigError(f"Expected one adapter for all answers, got {path} and {adapter}; leave one out.")
    base = read_json_object(result / CONFIG_FILE).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelNotFoundError(
            f"{path}: expected an adapter that names its model, got one that does not; name the model, and "
            "pass this as its adapter."
        )
    return base, result


def read_adapter(path: str | os.PathLike[str], config: TokenModelConfig) -> AdapterWeights:
    """The adapter in the folder `path`, or of the run there, for a model of that configuration.

    Raises ModelNotFoundError, ModelFileError, UnsupportedError.
    """
    if not isinstance(config, ModelConfig):
        raise UnsupportedError(
            f"{path}: expected a model with attention, got {config.architecture}; leave the adapter out."
        )
    folder = adapter_folder(Path(path))
    adapter = load_adapter(folder, config)
    if adapter.settings.rank > MAX_RANK:
        raise UnsupportedError(
            f"{folder}: expected an adapter of rank up to {MAX_RANK}, got {adapter.settings.rank}; fuse it."
        )
    for name, values in adapter.weights.items():
        if not np.isfinite(values).all():
            raise ModelFileError(
                f"{folder}: expected finite numbers in {name}, got others; copy or train the adapter again."
            )
    return AdapterWeights(adapter.settings, adapter.weights)
