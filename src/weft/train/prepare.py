"""From settings to a trainer: opens the folder, the model and the data, and puts the parts together."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from weft.config import format_bytes
from weft.errors import ConfigError, TrainingError
from weft.io.hf_writer import write_folder
from weft.models.adapter import AdapterSettings
from weft.models.config import ModelConfig
from weft.models.part_shapes import weight_shapes
from weft.train.adapters import Adapter, initial_adapter, save_adapter
from weft.train.config import TrainConfig, check_same_run, is_vector_run
from weft.train.data.batches import Batches
from weft.train.data.dataset import Dataset, DataSettings, load_dataset
from weft.train.data.files import find_files
from weft.train.data.pack import PackedRows
from weft.train.evaluate import Evaluation, bytes_of_tokens, evaluate
from weft.train.master_weights import split_parts
from weft.train.optimizer import Optimizer, UpdateKernel, UpdateRule
from weft.train.origin import Origin, open_origin
from weft.train.report import Callback
from weft.train.run_folder import RunFolder
from weft.train.schedules import Schedule
from weft.train.tensorboard import TensorBoardWriter
from weft.train.trainable import Trainable
from weft.train.trainer import Trainer, TrainingParts
from weft.types import Array


@dataclass(frozen=True)
class Machinery:
    """What computes: the model's gradients, its update, and how to give back their threads.

    memory_bytes: what the run needs at its peak, where that is known. least_seconds: see `TrainingParts`.
    """

    model: Trainable
    update: UpdateKernel
    close: Callable[[], None] = lambda: None
    memory_bytes: int | None = None
    least_seconds: Callable[[], float] | None = None


MakeMachinery = Callable[[TrainConfig, Origin, dict[str, Array]], Machinery]
MakeSampler = Callable[[TrainConfig, Origin, Machinery], Callable[[str], str] | None]

# Peak learning rates that suit the kind of run, where none is given.
_SCRATCH_RATE, _RECURRENT_RATE, _FULL_RATE, _ADAPTER_RATE = 1e-3, 4e-3, 5e-5, 2e-4


def prepare(
    config: TrainConfig,
    make_machinery: MakeMachinery,
    callbacks: Sequence[Callback] = (),
    make_sampler: MakeSampler | None = None,
) -> Trainer:
    """A trainer for a new run, in its folder. Raises ConfigError, DataError, TrainingError, and what opening
    the model raises.
    """
    path = Path(config.out or default_folder(config))
    config = dataclasses.replace(config, out=str(path))
    if RunFolder.holds_run(path):
        raise ConfigError(
            f"{path}: expected an empty folder, got one that holds a run; go on with it by --resume, or "
            "choose another one."
        )
    if (path / "checkpoints").is_dir():
        raise ConfigError(
            f"{path}: expected an empty folder, got one with checkpoints of a run whose config.yaml is gone; "
            "choose another one."
        )
    if (path / "config.json").is_file():
        raise ConfigError(
            f"{path}: expected an empty folder, got one that holds a model; choose another one."
        )
    if not config.model:
        raise ConfigError("Expected a model to train, got none; pass --model.")
    folder = RunFolder(path)
    return _closing_on_error(
        folder, lambda: _assemble(config, folder, make_machinery, callbacks, make_sampler)
    )


def resume(
    path: Path,
    changes: Mapping[str, Any],
    make_machinery: MakeMachinery,
    callbacks: Sequence[Callback] = (),
    make_sampler: MakeSampler | None = None,
) -> Trainer:
    """A trainer that goes on with the run in `path`, with those settings of `changes` that may change."""
    if not RunFolder.holds_run(path):
        raise ConfigError(f"{path}: expected the folder of a run, got none there; check the path.")
    folder = RunFolder(path)

    def go_on() -> Trainer:
        old = folder.read_config()
        config = dataclasses.replace(check_same_run(old, changes), out=str(path))
        trainer = _assemble(config, folder, make_machinery, callbacks, make_sampler)
        try:
            _keep_steps(folder, old, trainer.total_steps)
            trainer.resume()
        except BaseException:
            trainer.close()
            raise
        return trainer

    return _closing_on_error(folder, go_on)


def _keep_steps(folder: RunFolder, old: TrainConfig, steps: int) -> None:
    """Notes another number of steps in config.yaml, where the run may have one. Raises ConfigError."""
    if steps == old.steps:
        return
    if old.schedule != "constant":
        raise ConfigError(
            f"Expected the {old.steps} steps that the run began with, got epochs of {steps} steps; leave "
            "epochs out, or start a new run in another folder."
        )
    folder.begin(dataclasses.replace(old, steps=steps))


def default_folder(config: TrainConfig) -> str:
    """Where a run goes that names no folder."""
    path = Path(config.model)
    name = path.stem if path.suffix.lower() in (".gguf", ".yaml", ".yml", ".json") else path.name
    return str(Path("runs") / (name or "run"))


def _closing_on_error(folder: RunFolder, make: Callable[[], Trainer]) -> Trainer:
    try:
        return make()
    except BaseException:
        folder.close()
        raise


def _assemble(
    config: TrainConfig,
    folder: RunFolder,
    make_machinery: MakeMachinery,
    callbacks: Sequence[Callback],
    make_sampler: MakeSampler | None,
) -> Trainer:
    if is_vector_run(dataclasses.asdict(config)):
        from weft.train.vectors import assemble_vectors  # which is built from parts of this module

        return assemble_vectors(config, folder, callbacks)
    is_new = not RunFolder.holds_run(folder.path)
    files = find_files(config.data, folder.path, is_new)
    origin = open_origin(config, files, folder.path, is_new)
    settings = DataSettings(config.max_seq_length, config.mask_prompt, config.valid_share, config.seed)
    vocabulary = origin.config.vocabulary_size
    data = load_dataset(files, origin.tokenizer, origin.template(), vocabulary, settings)
    config = resolved(config, origin, len(data.train))
    _check_room(folder, origin, config)
    machinery = make_machinery(config, origin, _weights(config, origin))
    parts = _parts(config, origin, data, machinery, make_sampler)
    if data.train.num_cut:
        for callback in callbacks:
            callback.on_warning(
                f"{data.train.num_cut} tokens of examples beyond max_seq_length {config.max_seq_length} are "
                "left out; raise it to train on them."
            )
    if is_new:
        folder.begin(config)
    board = [TensorBoardWriter(folder.path / "tensorboard")] if config.tensorboard else []
    return Trainer(config, parts, folder, [*callbacks, *board])


def resolved(config: TrainConfig, origin: Origin, num_rows: int) -> TrainConfig:
    """`config` with every setting that was left open."""
    steps = config.steps
    if steps is None:
        steps = max(1, math.ceil((config.epochs or 1.0) * num_rows / config.rows_per_step))
    return dataclasses.replace(
        config,
        steps=steps,
        epochs=None,
        learning_rate=_suitable_rate(config, origin)
        if config.learning_rate is None
        else config.learning_rate,
        warmup_steps=min(100, steps // 10) if config.warmup_steps is None else config.warmup_steps,
        alpha=2.0 * config.rank if config.alpha is None else config.alpha,
    )


def _suitable_rate(config: TrainConfig, origin: Origin) -> float:
    if not origin.is_scratch:
        return _ADAPTER_RATE if config.lora else _FULL_RATE
    # Models without norms and attention learn at higher rates: docs/log.md.
    return _SCRATCH_RATE if isinstance(origin.config, ModelConfig) else _RECURRENT_RATE


def _parts(
    config: TrainConfig,
    origin: Origin,
    data: Dataset,
    machinery: Machinery,
    make_sampler: MakeSampler | None,
) -> TrainingParts:
    model = machinery.model
    optimizer = Optimizer(rule_of(config), config.clip_norm, model.weights, model.gradients, machinery.update)

    return TrainingParts(
        model=model,
        optimizer=optimizer,
        schedule=schedule_of(config),
        batches=Batches(data.train, config.rows_per_step, config.rows_per_slice, config.seed),
        data_key=data.key,
        export=lambda path: export_result(config, origin, model.weights, path),
        evaluate=_evaluation(config, origin, model, data.valid) if data.valid else None,
        sample=make_sampler(config, origin, machinery) if make_sampler is not None else None,
        close=machinery.close,
        memory_bytes=machinery.memory_bytes,
        least_seconds=machinery.least_seconds,
    )


def _evaluation(
    config: TrainConfig, origin: Origin, model: Trainable, rows: PackedRows
) -> Callable[[], Evaluation]:
    token_bytes = bytes_of_tokens(origin.tokenizer, origin.config.vocabulary_size)
    return partial(evaluate, model.evaluate, rows, config.rows_per_slice, config.eval_tokens, token_bytes)


def rule_of(config: TrainConfig) -> UpdateRule:
    """The update that `config` asks for."""
    names = [field.name for field in dataclasses.fields(UpdateRule) if field.name != "kind"]
    return UpdateRule(kind=config.optimizer, **{name: getattr(config, name) for name in names})


def schedule_of(config: TrainConfig) -> Schedule:
    """The course of the learning rate of a resolved `config`."""
    assert config.steps and config.learning_rate is not None and config.warmup_steps is not None
    peak, steps = config.learning_rate, config.steps
    return Schedule(
        config.schedule,
        peak,
        peak * config.min_learning_rate,
        steps,
        config.warmup_steps,
        max(1, round(config.decay_share * steps)),
    )


def _weights(config: TrainConfig, origin: Origin) -> dict[str, Array]:
    """What is trained: an adapter, or the model itself."""
    if config.lora:
        return initial_adapter(origin.config, config.lora_layers, config.rank, config.seed)
    return origin.weights(config.seed)


def export_result(config: TrainConfig, origin: Origin, weights: Mapping[str, Array], path: Path) -> None:
    """Writes `weights` to `path`: a model's Hugging Face folder, or an adapter's as PEFT has it."""
    if not config.lora:
        write_folder(path, origin.text_files(), split_parts(origin.config, weights), _dtype(config))
        return
    assert config.alpha is not None
    settings = AdapterSettings(config.rank, config.alpha, config.lora_dropout)
    save_adapter(path, origin.config, Adapter(settings, weights, config.model))


def _dtype(config: TrainConfig) -> str:
    return "bfloat16" if config.dtype == "bf16" else "float32"


def _check_room(folder: RunFolder, origin: Origin, config: TrainConfig) -> None:
    """Refuses a run whose checkpoints cannot fit on the disk. Adapters are small."""
    if config.lora:
        return
    size = 12 * sum(math.prod(shape) for _, shape in weight_shapes(origin.config))
    needed = size * (config.keep_checkpoints + 1)
    free = shutil.disk_usage(folder.path).free
    if needed > free:
        raise TrainingError(
            f"{folder.path}: expected {format_bytes(needed)} for {config.keep_checkpoints + 1} checkpoints, "
            f"got {format_bytes(free)} of room; make room, or lower keep_checkpoints."
        )
