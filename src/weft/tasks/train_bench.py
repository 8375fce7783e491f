"""Measures training on this machine: tokens a second by threads and teams, beside what the machine could do.

Settings come one after another, since each holds the model with its gradients and moments. The losses of all
settings that cut the batch alike are compared: a speed counts only for the right answer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from weft.errors import WeftError
from weft.io.checkpoint import Checkpoint
from weft.io.fetch.sources import resolve
from weft.io.model_config import normalized_config
from weft.io.open_checkpoint import open_checkpoint
from weft.machine import MachineLimits
from weft.models.config import TokenModelConfig
from weft.models.registry import read_config
from weft.optimizer_runtime import OptimizerKernel
from weft.plan.roofline import least_seconds
from weft.runtime import Pool
from weft.tasks.bench import Rates
from weft.train.adapters import initial_adapter
from weft.train.config import TrainConfig
from weft.train.data.slices import Slice
from weft.train.master_weights import initial_weights, load_master_weights
from weft.train.model_trainable import ModelTrainable
from weft.train.native_machinery import (
    bind_model,
    check_memory,
    frozen_weights,
    needed_bytes,
    training_plans,
)
from weft.train.optimizer import Optimizer
from weft.train.prepare import rule_of
from weft.train.presets import scratch_settings
from weft.types import Array

VOCABULARY = 50_257  # of a model from scratch: GPT-2's
STEPS, QUICK_STEPS = 5, 2
_LEARNING_RATE = 1e-5

Report = Callable[[str], None]


@dataclass(frozen=True)
class TrainedModel:
    """What is trained: a configuration, and the files of the model unless it is from scratch."""

    config: TokenModelConfig
    checkpoint: Checkpoint | None

    def weights(self, settings: TrainConfig) -> dict[str, Array]:
        """New float32 weights to train, those of an adapter where `settings` say so."""
        if settings.lora:
            return initial_adapter(self.config, settings.lora_layers, settings.rank, settings.seed)
        if self.checkpoint is None:
            return initial_weights(self.config, settings.seed)
        return load_master_weights(self.checkpoint, self.config)


def open_trained(model: str) -> TrainedModel:
    """The model of that name, folder or file, or one from scratch. Raises ModelNotFoundError, ModelFileError,
    ConfigError.
    """
    sizes = scratch_settings(model)
    if sizes is None:
        checkpoint = open_checkpoint(resolve(model))
        return TrainedModel(read_config(checkpoint.config), checkpoint)
    settings = normalized_config({"vocab_size": VOCABULARY, **sizes}, model)
    return TrainedModel(read_config(settings), None)


@dataclass
class TrainSpeed(Rates):
    """Tokens a second of each step with so many threads in so many teams; `least_s` is what the machine's
    limits allow for a step, `memory_bytes` what it needs at its peak.
    """

    threads: int
    teams: int
    slices: int
    tokens: int
    least_s: float
    memory_bytes: int
    rounds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def limit_tokens_per_s(self) -> float:
        """What the machine's limits allow."""
        return self.tokens / self.least_s


def team_counts(threads: int) -> list[int]:
    """One team of all threads, and a team for each."""
    return [1] if threads == 1 else [1, threads]


def measure_training(
    model: TrainedModel,
    settings: TrainConfig,
    limits: dict[int, MachineLimits],
    steps: int,
    report: Report | None = None,
) -> list[TrainSpeed]:
    """The speed of training with each number of threads of `limits`, in one team and in a team for each.

    A batch is cut into a slice for each team at least. One step warms up, `steps` are measured. Raises
    OutOfMemoryError where a setting cannot fit, WeftError when losses differ between settings.
    """
    speeds: list[TrainSpeed] = []
    for threads, allowed in limits.items():
        for teams in team_counts(threads):
            if report:
                report(f"threads: {threads}, teams: {teams}")
            speeds.append(_measure(model, _cut_for(settings, teams), threads, teams, allowed, steps))
    _check_losses(speeds)
    return speeds


def _cut_for(settings: TrainConfig, teams: int) -> TrainConfig:
    """`settings` with slices enough for `teams`."""
    most = max(1, settings.batch_size // teams)
    return dataclasses.replace(settings, slice_size=min(settings.rows_per_slice, most))


def _measure(
    model: TrainedModel,
    settings: TrainConfig,
    threads: int,
    teams: int,
    limits: MachineLimits,
    steps: int,
) -> TrainSpeed:
    with Pool(threads, teams) as pool:
        plans = training_plans(settings, model.config)
        rows = settings.rows_per_slice * settings.max_seq_length
        frozen = frozen_weights(settings, model.config, model.checkpoint, pool)
        trained = bind_model(settings, plans, model.weights(settings), pool, rows, frozen)
        check_memory(settings, trained)
        kernel = OptimizerKernel(pool)
        optimizer = Optimizer(
            rule_of(settings), settings.clip_norm, trained.weights, trained.gradients, kernel
        )
        batches = [_batch(settings, model.config.vocabulary_size, step) for step in range(steps + 1)]
        tokens = settings.batch_size * settings.max_seq_length
        least = sum(_least(trained, part, limits) for part in batches[0])
        memory = needed_bytes(settings, trained)
        speed = TrainSpeed(threads, teams, len(batches[0]), tokens, least, memory)
        for step, batch in enumerate(batches):
            begin = time.perf_counter()
            results = trained.run(batch)
            optimizer.step(optimizer.gradient_norm(), _LEARNING_RATE, step + 1)
            seconds = time.perf_counter() - begin
            speed.losses.append(sum(result.loss_sum for result in results) / tokens)
            if step:
                speed.rounds.append(tokens / seconds)
        return speed


def _least(trained: ModelTrainable, part: Slice, limits: MachineLimits) -> float:
    context = float(part.positions.mean()) + 1
    sizes = {"rows": part.num_rows, "sequences": len(part.sequences), "context": context}
    return least_seconds(trained.plan, sizes, limits)


def _batch(settings: TrainConfig, vocabulary_size: int, step: int) -> list[Slice]:
    """Sequences of tokens without a pattern, the same in each setting, as slices."""
    shape = (settings.batch_size, settings.max_seq_length + 1)
    text = np.random.default_rng(step).integers(0, vocabulary_size, shape).astype(np.int32)
    size = settings.rows_per_slice
    parts = [text[first : first + size] for first in range(0, len(text), size)]
    weight = np.float32(1 / (settings.batch_size * settings.max_seq_length))
    return [_slice(part, weight) for part in parts]


def _slice(text: Array, weight: np.float32) -> Slice:
    rows, length = text.shape[0], text.shape[1] - 1
    positions = np.tile(np.arange(length, dtype=np.int32), rows)[:, None]
    firsts = np.arange(rows, dtype=np.int32) * length
    return Slice(
        tokens=np.ascontiguousarray(text[:, :-1]).reshape(-1, 1),
        targets=np.ascontiguousarray(text[:, 1:]).reshape(-1, 1),
        positions=positions,
        loss_weights=np.full((rows * length, 1), weight, np.float32),
        sequences=np.stack([firsts, np.full_like(firsts, length)], axis=1),
        row_ids=np.arange(rows * length, dtype=np.int64)[:, None],
    )


def _check_losses(speeds: Iterable[TrainSpeed]) -> None:
    known: dict[int, TrainSpeed] = {}
    for speed in speeds:
        first = known.setdefault(speed.slices, speed)
        if first.losses != speed.losses:
            raise WeftError(
                f"Expected the same losses for {first.threads} threads and for {speed.threads} in "
                f"{speed.teams} teams, got others; this is a fault of weft: please report it."
            )
