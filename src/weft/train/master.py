"""A model's float32 weights, wherever they are: files, a run's result or checkpoint, with an adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weft.errors import ConfigError, ModelNotFoundError
from weft.io.fetch.sources import resolve
from weft.io.open_checkpoint import open_checkpoint
from weft.models.adapter import AdapterSettings
from weft.models.registry import read_config
from weft.train.adapters import Adapter, adapter_folder, fuse, is_adapter, load_adapter
from weft.train.checkpoint.store import CheckpointStore
from weft.train.config import TrainConfig
from weft.train.data.files import DataFiles
from weft.train.master_weights import load_master_weights
from weft.train.origin import Origin, open_origin
from weft.train.run_folder import RunFolder, read_run_config
from weft.train.trainer import WEIGHTS_FILE
from weft.types import Array


@dataclass(frozen=True)
class Master:
    """Configuration, tokenizer and template of a model, and its float32 weights by weft's names."""

    origin: Origin
    weights: dict[str, Array]


def open_master(model: str, adapter: str | None = None) -> Master:
    """The model of that name, folder or file; of a run its result, or else its newest whole checkpoint.

    adapter: a folder or a run, fused into the weights. Raises ModelNotFoundError, ModelFileError.
    """
    master = _of_run(Path(model)) if RunFolder.holds_run(Path(model)) else _of_files(model)
    if adapter is not None:
        found = load_adapter(adapter_folder(Path(adapter)), master.origin.config)
        fuse(master.origin.config, master.weights, found)
    return master


def _of_files(model: str) -> Master:
    checkpoint = open_checkpoint(resolve(model))
    config = read_config(checkpoint.config)
    origin = Origin(
        checkpoint.config,
        config,
        checkpoint.tokenizer(),
        checkpoint.chat_template,
        checkpoint.generation_config,
        checkpoint,
    )
    return Master(origin, load_master_weights(checkpoint, config))


def _of_run(path: Path) -> Master:
    if (path / "final" / "config.json").is_file():
        return _of_files(str(path / "final"))
    config = read_run_config(path)
    if is_adapter(path / "final"):
        return open_master(config.model, str(path / "final"))
    found = CheckpointStore(path / "checkpoints", config.keep_checkpoints).newest(lambda message: None)
    if found is None:
        raise ModelNotFoundError(f"{path}: expected a run with a checkpoint, got none yet; train it first.")
    return _of_checkpoint(path, config, found[1].arrays[WEIGHTS_FILE])


def _of_checkpoint(path: Path, config: TrainConfig, saved: Mapping[str, Array]) -> Master:
    """The model as a run's checkpoint has it. Its own tokenizer, if any, is in the run."""
    origin = open_origin(dataclasses.replace(config, max_seq_length=1), DataFiles(), path)
    weights = {name: np.array(array) for name, array in saved.items()}
    if not config.lora:
        return Master(origin, weights)
    if config.alpha is None:
        raise ConfigError(f"{path}: expected alpha in config.yaml, got none; resume the run first.")
    whole = origin.weights(config.seed)
    fuse(origin.config, whole, Adapter(AdapterSettings(config.rank, config.alpha), weights, None))
    return Master(origin, whole)
