"""The native core as the machinery of a run: a pool of threads, plans bound to weights, the update."""

from __future__ import annotations

from collections.abc import Callable

from weft.config import format_bytes
from weft.errors import ConfigError, OutOfMemoryError, UnsupportedError
from weft.io.checkpoint import Checkpoint
from weft.machine import available_memory, default_threads
from weft.models.adapter import AdapterSettings
from weft.models.config import ModelConfig, TokenModelConfig
from weft.models.loader import pack_weights
from weft.models.training import LossSettings, build_evaluation_plan, build_training_plan
from weft.optimizer_runtime import OptimizerKernel
from weft.plan.roofline import least_seconds
from weft.runtime import Pool, measure_limits
from weft.train.config import TrainConfig
from weft.train.model_trainable import Frozen, ModelTrainable, TrainingPlans
from weft.train.origin import Origin
from weft.train.prepare import Machinery
from weft.types import Array


def native_machinery(config: TrainConfig, origin: Origin, weights: dict[str, Array]) -> Machinery:
    """A pool with `weights` bound to plans of training; where they are an adapter's, over the model's own
    weights, packed. Raises OutOfMemoryError where it cannot fit.
    """
    plans = training_plans(config, origin.config)
    max_rows = config.rows_per_slice * config.max_seq_length
    return machinery_of(
        config,
        plans,
        weights,
        max_rows,
        lambda pool: frozen_weights(config, origin.config, origin.checkpoint, pool),
    )


def machinery_of(
    config: TrainConfig,
    plans: TrainingPlans,
    weights: dict[str, Array],
    max_rows: int,
    frozen: Callable[[Pool], Frozen | None] = lambda pool: None,
) -> Machinery:
    """A pool with `weights`, and `frozen` ones made on it, bound to `plans` for slices of `max_rows`."""
    # A team without a slice would do nothing, and its threads are missed by the others.
    pool = make_pool(config.threads, config.teams, config.slices_per_step)
    try:
        model = bind_model(config, plans, weights, pool, max_rows, frozen(pool))
        check_memory(config, model)
    except BaseException:
        pool.close()
        raise
    return Machinery(
        model,
        OptimizerKernel(pool),
        pool.close,
        memory_bytes=needed_bytes(config, model),
        least_seconds=lambda: least_row_seconds(config, model, pool, max_rows),
    )


def least_row_seconds(config: TrainConfig, model: ModelTrainable, pool: Pool, rows: int) -> float:
    """The least time for a row of full slices, of all teams together. Measures the machine for it."""
    length = config.max_seq_length
    sizes = {"rows": rows, "sequences": rows / length, "context": (length + 1) / 2}
    return least_seconds(model.plan, sizes, measure_limits(pool)) / rows / pool.num_teams


def bind_model(
    config: TrainConfig,
    plans: TrainingPlans,
    weights: dict[str, Array],
    pool: Pool,
    max_rows: int,
    frozen: Frozen | None = None,
) -> ModelTrainable:
    """`weights`, and `frozen` ones, bound to `plans` for slices of `max_rows` on `pool`."""
    return ModelTrainable(
        plans,
        weights,
        pool,
        max_rows=max_rows,
        frozen=frozen,
        num_slices=config.slices_per_step,
        seed=config.seed,
    )


def make_pool(threads: int | None, teams: int = 1, most_teams: int | None = None) -> Pool:
    """A pool of so many threads, by default those that the machine grants, in at most `most_teams`.

    Raises ConfigError.
    """
    threads = threads or max(default_threads(), teams)
    if teams > threads:
        raise ConfigError(
            f"Expected at most one team a thread, got {teams} teams of {threads} threads; lower teams or "
            "raise threads."
        )
    return Pool(threads, min(teams, most_teams or teams))


def training_plans(config: TrainConfig, model: TokenModelConfig) -> TrainingPlans:
    """How to make the plans of a run."""
    loss = LossSettings(config.label_smoothing, config.z_loss)
    compute = "bf16" if config.dtype == "bf16" else "f32"
    adapter = adapter_settings(config)
    return TrainingPlans(
        train=lambda weights, rows: build_training_plan(
            model, weights, rows, loss, compute, config.grad_checkpoint, adapter
        ),
        # Evaluation is of the plain loss, so that runs with other settings can be compared.
        evaluate=lambda weights, rows: build_evaluation_plan(
            model, weights, rows, LossSettings(), compute, adapter
        ),
    )


def adapter_settings(config: TrainConfig) -> AdapterSettings | None:
    """The adapter of a resolved `config`, if it trains one."""
    if not config.lora:
        return None
    assert config.alpha is not None
    return AdapterSettings(config.rank, config.alpha, config.lora_dropout)


def needed_bytes(config: TrainConfig, model: ModelTrainable) -> int:
    """Peak memory of the run: weights, gradients, activations, and the optimizer's moments."""
    moments = {"adamw": 2, "adam": 2, "sgd": 1 if config.momentum > 0 else 0}[config.optimizer]
    return model.memory_bytes + moments * sum(weight.nbytes for weight in model.weights.values())


def check_memory(config: TrainConfig, model: ModelTrainable) -> None:
    """Raises OutOfMemoryError where the moments, which are not there yet, cannot fit."""
    missing = needed_bytes(config, model) - model.memory_bytes
    free = available_memory()
    if missing > free:
        raise OutOfMemoryError(
            f"Expected {format_bytes(missing)} more of memory for the optimizer, got {format_bytes(free)}; "
            "train an adapter with --lora, take --optimizer sgd, or a smaller model."
        )


def frozen_weights(
    config: TrainConfig, model: TokenModelConfig, checkpoint: Checkpoint | None, pool: Pool
) -> Frozen | None:
    """The weights of `checkpoint` under an adapter, packed; None where none is trained. Raises
    UnsupportedError.
    """
    if not config.lora:
        return None
    if checkpoint is None or not isinstance(model, ModelConfig):
        raise UnsupportedError(
            "Expected a model with attention, from files, under an adapter, got another; leave lora out."
        )
    return pack_weights(checkpoint, model, pool, config.quant, may_interleave=False)
