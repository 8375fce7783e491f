"""The settings of a training run: each default in one place, from a YAML file, flags or keywords."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from weft.config import QUANT_KINDS, check_choice, check_count, plain_number, setting
from weft.errors import ConfigError

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "linear", "constant", "wsd")
DTYPES = ("bf16", "float32")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Raises ConfigError for a value that cannot be.

    Fields left at None are chosen when the run is prepared, and written down in its config.yaml.
    """

    model: str = setting(
        "", "-m", "--model", help="Name, folder or file of a model; a size to start from scratch."
    )
    data: tuple[str, ...] = setting((), "--data", help="File, folder, glob, - or stdlib; may be repeated.")
    out: str | None = setting(None, "--out", help="Folder of the run; by default runs/ and the model's name.")
    tokenizer: str | None = setting(
        None, "--tokenizer", help="Tokenizer for a model from scratch: a model, a folder, a tokenizer.json."
    )
    vocabulary_size: int = setting(
        8192, "--vocab-size", help="Tokens of a tokenizer that the run trains itself."
    )

    targets: tuple[str, ...] = setting(
        (), "--targets", help="Columns of numbers to learn, by name, or how many of the last: for perceptron."
    )
    inputs: tuple[str, ...] = setting(
        (), "--inputs", help="Columns to learn from, or how many of the first; by default all others."
    )
    standardize: bool = setting(
        False, "--standardize", help="Learn in standard deviations of each column; loss is in them, too."
    )

    steps: int | None = setting(None, "--steps", help="Steps to train; by default what the epochs need.")
    epochs: float | None = setting(
        None, "--epochs", help="Times to go through the data; 1 unless --steps is given."
    )
    batch_size: int = setting(8, "--batch-size", help="Packed sequences of a step, before accumulation.")
    grad_accumulation_steps: int = setting(
        1, "--grad-accumulation-steps", help="Batches whose gradients make one step."
    )
    max_seq_length: int = setting(256, "--max-seq-length", help="Tokens of a packed sequence.")
    slice_size: int | None = setting(
        None,
        "--slice-size",
        help="Sequences that are computed at once; more is faster and needs more memory.",
    )
    mask_prompt: bool = setting(False, "--mask-prompt", help="Train on answers alone, not on their prompts.")
    valid_share: float = setting(
        0.05, "--valid-share", help="Share of the data to hold out where it has no split of its own."
    )

    optimizer: str = setting("adamw", "--optimizer", choices=OPTIMIZERS, help="How weights follow gradients.")
    learning_rate: float | None = setting(
        None, "--learning-rate", help="Peak learning rate; by default what suits the kind of run."
    )
    schedule: str = setting("cosine", "--schedule", choices=SCHEDULES, help="Course of the learning rate.")
    warmup_steps: int | None = setting(
        None, "--warmup-steps", help="Steps of rising learning rate; by default a tenth, at most 100."
    )
    decay_share: float = setting(0.2, "--decay-share", help="Share of the steps in which wsd falls.")
    min_learning_rate: float = setting(
        0.1, "--min-learning-rate", help="Lowest learning rate, as a share of the peak."
    )
    beta1: float = setting(0.9, "--beta1", help="Memory of Adam's mean.")
    beta2: float = setting(0.95, "--beta2", help="Memory of Adam's square.")
    eps: float = setting(1e-8, "--eps", help="Adam's smallest divisor.")
    weight_decay: float = setting(0.01, "--weight-decay", help="Decay of matrices; vectors do not decay.")
    momentum: float = setting(0.9, "--momentum", help="Momentum of SGD.")
    nesterov: bool = setting(False, "--nesterov", help="Nesterov's momentum for SGD.")
    clip_norm: float = setting(
        1.0, "--clip-norm", help="Most that all gradients together may measure; 0: any."
    )
    label_smoothing: float = setting(
        0.0, "--label-smoothing", help="Share of the target given to all tokens."
    )
    z_loss: float = setting(0.0, "--z-loss", help="Weight of the squared log of the softmax's sum.")

    lora: bool = setting(False, "--lora", help="Train an adapter over frozen weights.")
    rank: int = setting(16, "--rank", help="Rank of the adapter.")
    alpha: float | None = setting(None, "--alpha", help="Strength of the adapter; by default twice its rank.")
    lora_dropout: float = setting(0.0, "--lora-dropout", help="Dropout before the adapter.")
    lora_layers: tuple[str, ...] = setting(
        (), "--lora-layers", help="Layers that get adapters, such as q_proj; by default all linear ones."
    )
    quant: str | None = setting(
        None, "--quant", choices=QUANT_KINDS, help="Requantize the frozen weights under an adapter."
    )

    dtype: str = setting("bf16", "--dtype", choices=DTYPES, help="Type that products are computed in.")
    grad_checkpoint: bool = setting(
        False, "--grad-checkpoint", help="Recompute activations rather than keep them: less memory, slower."
    )
    seed: int = setting(0, "--seed", help="Seed of all that is random.")
    threads: int | None = setting(
        None, "-t", "--threads", help="Threads to compute with; by default what the machine grants."
    )
    teams: int = setting(
        1, "--teams", help="Teams that the threads are split into, at most one for each slice of a step."
    )

    save_every: int = setting(100, "--save-every", help="Steps between checkpoints.")
    keep_checkpoints: int = setting(2, "--keep-checkpoints", help="Latest checkpoints that are kept.")
    eval_every: int = setting(
        100, "--eval-every", help="Steps between evaluations on held-out data; 0: none."
    )
    eval_tokens: int = setting(65536, "--eval-tokens", help="Most held-out tokens of an evaluation.")
    patience: int = setting(
        0, "--patience", help="Evaluations without a better loss after which the run stops; 0: any number."
    )
    sample_every: int = setting(0, "--sample-every", help="Steps between samples of the model; 0: none.")
    sample_prompt: str = setting(
        "", "--sample-prompt", help="What samples continue; by default a start of text."
    )
    tensorboard: bool = setting(False, "--tensorboard", help="Also write TensorBoard event files.")

    def __post_init__(self) -> None:
        for name in ("data", "lora_layers", "targets", "inputs"):
            object.__setattr__(self, name, _texts(getattr(self, name)))
        _check_types(self)
        for name in ("targets", "inputs"):
            names = ",".join(getattr(self, name)).split(",") if getattr(self, name) else []
            object.__setattr__(self, name, tuple(part.strip() for part in names))
        for name in _COUNTS:
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for name, (low, high) in _RANGES.items():
            _check_range(name, getattr(self, name), low, high)
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        if self.steps is not None and self.epochs is not None:
            raise ConfigError("Expected steps or epochs, got both; leave one out.")
        _check_use(self)
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError("Expected sgd with momentum for nesterov, got other settings; leave it out.")

    @property
    def rows_per_step(self) -> int:
        """Packed sequences of a step."""
        return self.batch_size * self.grad_accumulation_steps

    @property
    def slices_per_step(self) -> int:
        """Slices of a step."""
        return math.ceil(self.rows_per_step / self.rows_per_slice)

    @property
    def rows_per_slice(self) -> int:
        """Packed sequences of a slice: about 2,048 tokens, where the products are at their best."""
        return self.slice_size or max(1, min(self.batch_size, 2048 // self.max_seq_length))


_COUNTS = (
    "vocabulary_size",
    "steps",
    "batch_size",
    "grad_accumulation_steps",
    "max_seq_length",
    "slice_size",
    "rank",
    "threads",
    "teams",
    "save_every",
    "keep_checkpoints",
    "eval_tokens",
)
_MOST = math.inf
_RANGES = {
    "epochs": (1e-9, _MOST),
    "learning_rate": (0.0, _MOST),
    "valid_share": (0.0, 0.9),
    "decay_share": (0.0, 1.0),
    "min_learning_rate": (0.0, 1.0),
    "warmup_steps": (0, _MOST),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.999999),
    "eps": (0.0, 1.0),
    "weight_decay": (0.0, _MOST),
    "momentum": (0.0, 0.999999),
    "clip_norm": (0.0, _MOST),
    "label_smoothing": (0.0, 0.999),
    "z_loss": (0.0, _MOST),
    "alpha": (0.0, _MOST),
    "lora_dropout": (0.0, 0.999),
    "seed": (0, 2.0**63),
    "eval_every": (0, _MOST),
    "patience": (0, _MOST),
    "sample_every": (0, _MOST),
}
# Settings that say nothing where another one is not set.
_OF_ADAPTERS = ("rank", "lora_dropout", "lora_layers", "quant")
_OF_TEXT = (
    "lora",
    "mask_prompt",
    "tokenizer",
    "sample_every",
    "label_smoothing",
    "z_loss",
    "grad_checkpoint",
)
_OF_VECTORS = ("inputs", "standardize")
_CHOICES: dict[str, tuple[object, ...]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "dtype": DTYPES,
    "quant": (None, *QUANT_KINDS),
}

# Plain gradient descent, unless the run says otherwise.
VECTOR_DEFAULTS: Mapping[str, Any] = {
    "optimizer": "sgd",
    "momentum": 0.0,
    "clip_norm": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_steps": 0,
    "batch_size": 256,
    "max_seq_length": 1,
    "dtype": "float32",
}

_KIND_NAMES: Mapping[Any, str] = {type(None): "nothing", ...: "several"}

# What a resumed run may do otherwise without becoming another run.
CHANGEABLE = frozenset(
    (
        "out",
        "threads",
        "teams",
        "save_every",
        "keep_checkpoints",
        "eval_every",
        "eval_tokens",
        "patience",
        "sample_every",
        "sample_prompt",
        "tensorboard",
    )
)


def _check_types(config: TrainConfig) -> None:
    hints = get_type_hints(TrainConfig)
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        kinds = get_args(hint) or (hint,)
        value = _plain(value, kinds)
        object.__setattr__(config, field.name, value)
        if hint == tuple[str, ...]:
            good = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        else:
            good = type(value) in kinds
        if not good:
            names = " or ".join(_KIND_NAMES.get(kind) or kind.__name__ for kind in kinds)
            raise ConfigError(f"Expected {field.name} to be {names}, got {value!r}; correct it.")


def _texts(value: Any) -> Any:
    """One text or path, or several, as a tuple of texts; anything else as it is."""
    if isinstance(value, str | os.PathLike):
        value = (value,)
    if not isinstance(value, Iterable):
        return value
    return tuple(os.fspath(item) if isinstance(item, os.PathLike) else item for item in value)


def _plain(value: Any, kinds: tuple[Any, ...]) -> Any:
    """A path as text, and a number as the one of `kinds` that it fits."""
    if str in kinds and isinstance(value, os.PathLike):
        return os.fspath(value)
    value = plain_number(value)
    return float(value) if type(value) is int and float in kinds and int not in kinds else value


def _check_use(config: TrainConfig) -> None:
    """Raises ConfigError for a setting that would be of no use, as nobody may have meant it so."""
    is_vector = is_vector_run(vars(config))
    useless = (
        (not config.lora, _OF_ADAPTERS, "an adapter alone, got a run without lora"),
        (is_vector, _OF_TEXT, "text alone, got a run on vectors"),
        (not is_vector, _OF_VECTORS, "vectors alone, got a run without targets"),
        (not config.eval_every, ("patience",), "evaluations alone, got none by eval_every"),
    )
    for is_useless, names, reason in useless:
        if is_useless and (told := _changed(config, names)):
            raise ConfigError(f"Expected {', '.join(told)} for {reason}; leave out what is not meant.")


def _changed(config: TrainConfig, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that are not as they are by default."""
    return tuple(name for name in names if getattr(config, name) != getattr(TrainConfig, name))


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not (low <= value <= high and math.isfinite(value)):
        most = "" if high == _MOST else f" and at most {high:g}"
        raise ConfigError(f"Expected {name} of at least {low:g}{most}, got {value!r}; correct it.")


def is_vector_run(settings: Mapping[str, Any]) -> bool:
    """Whether these settings of a run are about vectors: they name targets, or the data is arrays."""
    data = settings.get("data") or ()
    names = (data,) if isinstance(data, str) else data
    return bool(settings.get("targets")) or any(str(name).endswith(".npz") for name in names)


def config_of(settings: Mapping[str, Any]) -> TrainConfig:
    """The configuration with these fields set. Raises ConfigError for unknown names and wrong values."""
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in settings:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]}?" if close else "see `weft train --help`."
            raise ConfigError(f"Expected settings of a training run, got {name!r}; {hint}")
    return TrainConfig(**settings)


def check_same_run(old: TrainConfig, new: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a resumed run: `old` with those settings of `new` that may change.

    Where `new` has epochs, the steps are left open: they depend on the data. Raises ConfigError naming every
    setting of `new` that differs and would make it another run.
    """
    before = dataclasses.asdict(old)
    by_epochs = {"steps": None} if new.get("epochs") is not None else {}
    wanted = dataclasses.asdict(config_of({**before, **by_epochs, **new}))
    free = CHANGEABLE | {"epochs"} | ({"steps"} if old.schedule == "constant" else set())
    changed = [name for name in new if wanted[name] != before[name] and name not in free]
    if changed:
        listed = ", ".join(f"{name} ({before[name]!r}, now {wanted[name]!r})" for name in sorted(changed))
        raise ConfigError(
            f"Expected the settings that the run began with, got others: {listed}; leave them out, or "
            "start a new run in another folder."
        )
    return TrainConfig(**wanted)
