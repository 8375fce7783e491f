"""Training from Python: settings in, a trained model out, or a trainer that a loop of one's own drives."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weft.config import EngineConfig
from weft.errors import ConfigError
from weft.models.loader import LoadedModel
from weft.models.part_shapes import specs_of
from weft.models.weight_spec import Role
from weft.runtime import Pool, Weight, WeightPart
from weft.tasks.model import Model
from weft.train.adapters import Adapter, fuse
from weft.train.config import VECTOR_DEFAULTS, TrainConfig, config_of, is_vector_run
from weft.train.native_machinery import adapter_settings, native_machinery
from weft.train.origin import Origin
from weft.train.prepare import Machinery, default_folder, prepare, resume
from weft.train.report import Callback, TrainingResult
from weft.train.run_folder import RunFolder
from weft.train.settings_file import check_adapter, joined_settings
from weft.train.trainer import Trainer
from weft.types import Array

AUTO = "auto"
SAMPLE_TOKENS = 64


def train(
    config: str | Path | None = None,
    *,
    resume: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> TrainingResult:
    """Trains a model to the end, or until Ctrl-C; see `trainer` for the arguments, and for what is raised."""
    with trainer(config, resume=resume, callbacks=callbacks, **settings) as made:
        return made.run()


def trainer(
    config: str | Path | None = None,
    *,
    resume: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Trainer:
    """A trainer to iterate over, a step at a time; close it afterwards.

    config: a YAML file of settings, over which keywords win; fields: see `TrainConfig`. resume: the folder of
    a run to go on with, where only settings that change no result may differ; "auto": the folder of this run
    if it was begun, else a new run. Raises ConfigError, DataError, TrainingError, OutOfMemoryError, and what
    opening the model raises.
    """
    given = joined_settings(config, settings)
    folder = _folder_to_resume(resume, given)
    if folder is not None:
        return _resume(folder, given, callbacks)
    check_adapter(settings, given)
    if is_vector_run(given):
        given = {**VECTOR_DEFAULTS, **given}
    return prepare(config_of(given), native_machinery, callbacks, sampler_of)


def _folder_to_resume(resume: str | os.PathLike[str] | None, settings: dict[str, Any]) -> Path | None:
    if resume is None:
        return None
    if os.fspath(resume) != AUTO:
        return Path(resume)
    config = config_of(settings)
    if not (config.out or config.model):
        raise ConfigError("Expected a run to resume, got none; pass its folder, or the settings of the run.")
    folder = Path(config.out or default_folder(config))
    return folder if RunFolder.holds_run(folder) else None


def _resume(folder: Path, changes: dict[str, Any], callbacks: Sequence[Callback]) -> Trainer:
    changes = {name: value for name, value in changes.items() if name != "out"}
    return resume(folder, changes, native_machinery, callbacks, sampler_of)


def sampler_of(config: TrainConfig, origin: Origin, machinery: Machinery) -> Callable[[str], str]:
    """What continues a prompt with the present weights."""

    def sample(prompt: str) -> str:
        with published(config, origin, machinery.model.weights) as model:
            start = model.tokenizer.encode(prompt) if prompt else _start(origin)
            answer = model.generate([start], max_tokens=SAMPLE_TOKENS, seed=config.seed, temperature=0.8)
        return prompt + answer[0].text

    return sample


def published(config: TrainConfig, origin: Origin, weights: Any) -> Model:
    """A model that answers with `weights` as they are now, packed as bfloat16."""

    def load(path: Path, pool: Pool, quant: str | None) -> LoadedModel:
        return LoadedModel(
            origin.config,
            _pack(origin, whole_weights(config, origin, weights), pool),
            origin.settings,
            origin.generation_config,
            origin.chat_template,
            lambda: origin.tokenizer,
        )

    context = min(config.max_seq_length, origin.config.max_context)
    return Model(Path(config.model), EngineConfig(threads=config.threads, max_context=context), load)


def whole_weights(config: TrainConfig, origin: Origin, weights: Any) -> dict[str, Array]:
    """The weights of the model itself: `weights`, or the origin's with the adapter that `weights` are."""
    settings = adapter_settings(config)
    if settings is None:
        return dict(weights)
    fused = origin.weights(config.seed)
    fuse(origin.config, fused, Adapter(settings, weights, None))
    return fused


def _pack(origin: Origin, weights: dict[str, Array], pool: Pool) -> dict[str, Weight | Array]:
    packed: dict[str, Weight | Array] = {}
    for spec in specs_of(origin.config):
        array = weights[spec.name]
        if spec.role is Role.VECTOR:
            packed[spec.name] = np.array(array)
        else:
            n, k = array.shape
            part = WeightPart("F32", n, k, array.reshape(-1).view(np.uint8).data)
            packed[spec.name] = Weight.pack(pool, [part], target="bf16")
    return packed


def _start(origin: Origin) -> list[int]:
    """What texts begin with: the model's mark of a start, or that of an end."""
    special = origin.tokenizer.special
    first = special.bos_id if special.bos_id is not None else special.eos_id
    return [0] if first is None else [first]
