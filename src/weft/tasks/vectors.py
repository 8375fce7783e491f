"""The perceptron on vectors, trained: predictions and its error on data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from weft.errors import ConfigError, ModelFileError, ModelNotFoundError
from weft.io.json_file import read_json_object
from weft.io.safetensors import open_safetensors
from weft.models.vector_perceptron import (
    TENSORS,
    VectorConfig,
    build_vector_plan,
    is_vector_model,
    read_vector_config,
)
from weft.runtime import Pool, Tensor, compile
from weft.train.data.files import find_files
from weft.train.data.slices import SliceResult
from weft.train.evaluate import Evaluation, summarize
from weft.train.native_machinery import make_pool
from weft.train.run_folder import RunFolder
from weft.train.vectors import matching_table
from weft.types import Array

_ROWS = 4096  # vectors that are computed at once


def load_perceptron(model: str | os.PathLike[str], *, threads: int | None = None) -> VectorModel:
    """The perceptron on vectors in a folder: that of a run, or its result.

    Raises ModelNotFoundError, ModelFileError.
    """
    folder = _folder(Path(model))
    config = read_vector_config(read_json_object(folder / "config.json"))
    return VectorModel(config, _weights(folder, config), make_pool(threads, 1))


class VectorModel:
    """f(x) = W1 · tanh(W2 · x + b2) + b1 on the threads of `pool`. Any thread may use it; close it to give
    back its threads.

    config: names of the columns that go in and come out. weights: float32 arrays by name.
    """

    def __init__(self, config: VectorConfig, weights: dict[str, Array], pool: Pool) -> None:
        self.config = config
        self.weights = weights
        self.pool = pool
        bound = {name: Tensor(weight) for name, weight in weights.items()}
        plan = build_vector_plan(bound, len(config.inputs), len(config.targets), _ROWS, "predict")
        self._executable = compile(plan, pool, bound)

    def predict(self, x: Array | Sequence[Sequence[float]] | Sequence[float]) -> Array:
        """float32 [rows, targets] for x [rows, inputs]; [targets] for one vector. The same bits for a row
        whatever is beside it. Raises ConfigError for another number of columns.
        """
        given = np.ascontiguousarray(x, np.float32)
        rows = given[None] if given.ndim == 1 else given
        if rows.ndim != 2 or rows.shape[1] != len(self.config.inputs):
            raise ConfigError(
                f"Expected rows of {len(self.config.inputs)} numbers ({', '.join(self.config.inputs[:6])}), "
                f"got an array {given.shape}; reshape it."
            )
        parts = [self._executable.run({"x": rows[n : n + _ROWS]})["out"] for n in range(0, len(rows), _ROWS)]
        out = np.concatenate(parts) if parts else np.zeros((0, len(self.config.targets)), np.float32)
        return out[0] if given.ndim == 1 else out

    def evaluate(self, x: Array, y: Array) -> Evaluation:
        """The mean squared error of the predictions for x [rows, inputs] against y [rows, targets]."""
        errors = np.square(self.predict(x).astype(np.float64) - y).mean(axis=1)
        return summarize([SliceResult(float(errors.sum()), len(errors))])

    def close(self) -> None:
        """Gives back threads and memory. A second call does nothing."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def holds_perceptron(model: str) -> bool:
    """Whether a path is that of a perceptron on vectors, or of a run that trains one."""
    path = Path(model)
    config = (path / "final" if RunFolder.holds_run(path) else path) / "config.json"
    return config.is_file() and is_vector_model(read_json_object(config))


def evaluate_perceptron(
    model: str, data: Sequence[str], split: str = "test", threads: int | None = None
) -> Evaluation:
    """The mean squared error of `model` on tables of numbers. Raises DataError, and as `load_perceptron`."""
    with load_perceptron(model, threads=threads) as loaded:
        files = find_files(data)
        table = matching_table(getattr(files, split) or files.valid or files.train, loaded.config)
        return loaded.evaluate(table.x, table.y)


def predict_table(model: str, data: Sequence[str], threads: int | None = None) -> tuple[list[str], Array]:
    """Names of the targets, and their predictions [rows, targets] for tables of numbers. Raises DataError."""
    with load_perceptron(model, threads=threads) as loaded:
        table = matching_table(find_files(data).train, loaded.config, with_targets=False)
        return list(loaded.config.targets), loaded.predict(table.x)


def _folder(path: Path) -> Path:
    if RunFolder.holds_run(path):
        path = path / "final"
    if not (path / "config.json").is_file():
        raise ModelNotFoundError(
            f"{path}: expected a trained perceptron, got no config.json; check the path, or finish the run."
        )
    if not is_vector_model(read_json_object(path / "config.json")):
        raise ModelFileError(f"{path}: expected a perceptron on vectors, got another model; use weft.load.")
    return path


def _weights(folder: Path, config: VectorConfig) -> dict[str, Array]:
    tensors = open_safetensors(folder / "model.safetensors").tensors
    weights = {}
    for name, shape in config.shapes().items():
        source = tensors.get(TENSORS[name])
        if source is None or source.shape != shape:
            came = "none" if source is None else source.shape
            raise ModelFileError(
                f"{folder}: expected {TENSORS[name]!r} of shape {shape}, got {came}; take the whole model."
            )
        weights[name] = np.array(source.dequantize(), np.float32)
    return weights
