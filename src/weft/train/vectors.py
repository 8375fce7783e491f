"""How a trainer is put together for a perceptron on vectors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weft.errors import ConfigError, DataError
from weft.io.hf_writer import TextFiles, write_folder
from weft.models.vector_perceptron import (
    TENSORS,
    VectorConfig,
    build_vector_plan,
    initial_vector_weights,
    standardized,
)
from weft.train.config import TrainConfig
from weft.train.data.files import DataFile, find_files
from weft.train.data.read_vectors import Columns, VectorTable, read_vectors
from weft.train.data.vectors import VectorBatches, make_slices, split_table, table_key
from weft.train.evaluate import Evaluation, summarize
from weft.train.model_trainable import TrainingPlans
from weft.train.native_machinery import machinery_of
from weft.train.optimizer import Optimizer
from weft.train.presets import scratch_settings
from weft.train.report import Callback
from weft.train.run_folder import RunFolder
from weft.train.tensorboard import TensorBoardWriter
from weft.train.trainable import Trainable
from weft.train.trainer import Trainer, TrainingParts
from weft.types import Array

if TYPE_CHECKING:
    from weft.train.prepare import Machinery


def assemble_vectors(config: TrainConfig, folder: RunFolder, callbacks: Sequence[Callback]) -> Trainer:
    """A trainer of a perceptron on vectors. Raises ConfigError, DataError, OutOfMemoryError."""
    is_new = not RunFolder.holds_run(folder.path)
    data = _read_data(config, folder, is_new)
    model = VectorConfig(data.train.inputs, data.train.targets, _hidden(config))
    steps = config.steps or max(1, math.ceil((config.epochs or 1.0) * len(data.train) / config.rows_per_step))
    rate = _suitable_rate(model) if config.learning_rate is None else config.learning_rate
    config = dataclasses.replace(config, steps=steps, epochs=None, learning_rate=rate)
    weights = initial_vector_weights(model, config.seed)
    machinery = machinery_of(config, vector_plans(config, model), weights, config.rows_per_slice)
    parts = _training_parts(config, data, model, machinery)
    if is_new:
        folder.begin(config)
    board = [TensorBoardWriter(folder.path / "tensorboard")] if config.tensorboard else []
    return Trainer(config, parts, folder, [*callbacks, *board])


def _suitable_rate(model: VectorConfig) -> float:
    """A rate at which plain descent of the last layer cannot overshoot, whatever the hidden values are.

    These are within ±1: the curvature of the mean squared error is at most 2 · (hidden + 1) / targets.
    """
    return min(0.1, len(model.targets) / (model.hidden_features + 1))


@dataclass(frozen=True)
class _VectorData:
    """The columns of a run: `valid` are held out; `scales` are what both were standardized by; `key` tells
    their content before that.
    """

    train: VectorTable
    valid: VectorTable | None
    scales: tuple[Array, Array] | None
    key: str


def _read_data(config: TrainConfig, folder: RunFolder, is_new: bool) -> _VectorData:
    files = find_files(config.data, folder.path, is_new)
    columns = Columns(config.inputs, config.targets)
    table = read_vectors(files.train, columns)
    if not table.targets:
        raise ConfigError("Expected columns to learn, got none; name them by --targets.")
    held_out = read_vectors(files.valid, columns) if files.valid else None
    train, valid = (table, held_out) if held_out else split_table(table, config.valid_share, config.seed)
    key = table_key([train, *([valid] if valid else [])])
    if not config.standardize:
        return _VectorData(train, valid, None, key)
    scales = _scales(train)
    return _VectorData(_scaled(train, *scales), valid and _scaled(valid, *scales), scales, key)


def _training_parts(
    config: TrainConfig, data: _VectorData, model: VectorConfig, machinery: Machinery
) -> TrainingParts:
    from weft.train.prepare import rule_of, schedule_of

    trainable, rows = machinery.model, config.rows_per_slice
    optimizer = Optimizer(
        rule_of(config), config.clip_norm, trainable.weights, trainable.gradients, machinery.update
    )
    return TrainingParts(
        model=trainable,
        optimizer=optimizer,
        schedule=schedule_of(config),
        batches=VectorBatches(data.train, config.rows_per_step, rows, config.seed),
        data_key=data.key,
        export=lambda path: _export(path, model, trainable.weights, data.scales),
        evaluate=partial(evaluate_vectors, trainable, data.valid, rows) if data.valid else None,
        close=machinery.close,
        memory_bytes=machinery.memory_bytes,
        least_seconds=machinery.least_seconds,
    )


def vector_plans(config: TrainConfig, model: VectorConfig) -> TrainingPlans:
    """How to make the plans of a run."""
    sizes = len(model.inputs), len(model.targets)
    compute = "bf16" if config.dtype == "bf16" else "f32"
    return TrainingPlans(
        train=lambda weights, rows: build_vector_plan(weights, *sizes, rows, "train", compute),
        evaluate=lambda weights, rows: build_vector_plan(weights, *sizes, rows, "evaluate", compute),
        has_free_rows=True,
    )


def evaluate_vectors(model: Trainable, table: VectorTable, rows_per_slice: int) -> Evaluation:
    """The mean squared error on all rows of `table`."""
    return summarize(model.evaluate(make_slices(table, np.arange(len(table)), rows_per_slice)))


def matching_table(files: Sequence[DataFile], model: VectorConfig, with_targets: bool = True) -> VectorTable:
    """The columns of `files` that `model` reads. Raises DataError."""
    table = read_vectors(files, Columns(model.inputs, model.targets if with_targets else ()))
    if len(table.inputs) != len(model.inputs):
        raise DataError(
            f"{files[0].path}: expected {len(model.inputs)} columns of inputs, got {len(table.inputs)}; "
            "give data like that of the training."
        )
    return table


def _hidden(config: TrainConfig) -> int:
    settings = scratch_settings(config.model)
    if settings is None or settings.get("model_type") != "perceptron":
        raise ConfigError(
            f"Expected the model perceptron for vectors, got {config.model!r}; pass --model perceptron, or a "
            "YAML file with `preset: perceptron` and its hidden_size."
        )
    hidden = settings.get("hidden_size")
    if type(hidden) is not int or hidden < 1:
        raise ConfigError(f"Expected hidden_size of at least 1, got {hidden!r}; correct {config.model}.")
    return hidden


def _scales(table: VectorTable) -> tuple[Array, Array]:
    """Mean and spread of each column of inputs and of targets, f32[2, columns]."""
    scales = []
    for values in (table.x, table.y):
        spread = values.std(axis=0, dtype=np.float64)
        scales.append(np.stack([values.mean(axis=0, dtype=np.float64), np.where(spread > 0, spread, 1)]))
    return scales[0].astype(np.float32), scales[1].astype(np.float32)


def _scaled(table: VectorTable, x: Array, y: Array) -> VectorTable:
    return VectorTable((table.x - x[0]) / x[1], (table.y - y[0]) / y[1], table.inputs, table.targets)


def _export(
    path: Path, model: VectorConfig, weights: Mapping[str, Array], scales: tuple[Array, Array] | None
) -> None:
    weights = weights if scales is None else standardized(weights, *scales)
    tensors = ((TENSORS[name], weights[name]) for name in model.shapes())
    write_folder(path, TextFiles(model.settings()), tensors, "float32")
