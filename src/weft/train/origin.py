"""What a run begins from: a model's files, or sizes and a tokenizer that it trains itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import ConfigError
from weft.io.atomic_file import write_atomically
from weft.io.checkpoint import Checkpoint
from weft.io.fetch.sources import resolve
from weft.io.hf_writer import TextFiles
from weft.io.model_config import normalized_config
from weft.io.open_checkpoint import open_checkpoint
from weft.io.text.chat_template import ChatTemplate
from weft.io.text.tokenizer import Tokenizer
from weft.models.config import TokenModelConfig
from weft.models.registry import read_config
from weft.train.config import TrainConfig
from weft.train.data.files import DataFiles
from weft.train.master_weights import initial_weights, load_master_weights
from weft.train.presets import scratch_settings
from weft.train.tokenizer_training import load_own_tokenizer, train_tokenizer
from weft.types import Array

_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Origin:
    """The model before training. checkpoint: its files; None for one from scratch."""

    settings: Mapping[str, Any]
    config: TokenModelConfig
    tokenizer: Tokenizer
    chat_template: str | None
    generation_config: Mapping[str, Any]
    checkpoint: Checkpoint | None

    @property
    def is_scratch(self) -> bool:
        """Whether the model is trained from nothing."""
        return self.checkpoint is None

    def template(self) -> ChatTemplate | None:
        """The chat template, ready to render. Raises TokenizerError."""
        return None if self.chat_template is None else ChatTemplate.of(self.chat_template, self.tokenizer)

    def weights(self, seed: int) -> dict[str, Array]:
        """The float32 weights to begin with, by weft's names."""
        if self.checkpoint is None:
            return initial_weights(self.config, seed)
        return load_master_weights(self.checkpoint, self.config)

    def text_files(self) -> TextFiles:
        """What the result's folder holds beside its weights."""
        return TextFiles(self.settings, self.tokenizer, self.chat_template, self.generation_config)


def open_origin(config: TrainConfig, files: DataFiles, folder: Path, is_new: bool = False) -> Origin:
    """The model that `config` names. A tokenizer that it trains on `files` is kept in the run's `folder`.

    is_new: whether the run begins now, so that a tokenizer there is not its own. Raises ConfigError,
    ModelNotFoundError, ModelFileError, DataError.
    """
    settings = scratch_settings(config.model)
    if settings is None:
        origin = _from_files(config)
    else:
        origin = _from_scratch(config, settings, _scratch_tokenizer(config, files, folder, is_new))
    longest = origin.config.max_context
    if config.max_seq_length > longest:
        raise ConfigError(
            f"Expected max_seq_length of at most {longest}, the model's context, got "
            f"{config.max_seq_length}; lower it."
        )
    return origin


def _from_files(config: TrainConfig) -> Origin:
    checkpoint = open_checkpoint(resolve(config.model))
    if config.tokenizer is not None:
        raise ConfigError(
            f"Expected a tokenizer for a model from scratch alone, as {config.model} has its own, got "
            f"{config.tokenizer!r}; leave it out."
        )
    return Origin(
        checkpoint.config,
        read_config(checkpoint.config),
        checkpoint.tokenizer(),
        checkpoint.chat_template,
        checkpoint.generation_config,
        checkpoint,
    )


def _from_scratch(
    config: TrainConfig, sizes: dict[str, Any], tokenizer_and_template: tuple[Tokenizer, str | None]
) -> Origin:
    tokenizer, template = tokenizer_and_template
    settings = {**sizes, "vocab_size": sizes.get("vocab_size", tokenizer.vocab_size)}
    if settings["vocab_size"] < tokenizer.vocab_size:
        raise ConfigError(
            f"Expected a vocabulary of at least the tokenizer's {tokenizer.vocab_size} tokens, got "
            f"{settings['vocab_size']}; raise vocab_size."
        )
    for name, number in (("bos", tokenizer.bos_id), ("eos", tokenizer.special.eos_id)):
        settings[f"{name}_token_id"] = number
    normalized = normalized_config(settings, config.model)
    return Origin(normalized, read_config(normalized), tokenizer, template, {}, None)


def _scratch_tokenizer(
    config: TrainConfig, files: DataFiles, folder: Path, is_new: bool
) -> tuple[Tokenizer, str | None]:
    if config.lora:
        raise ConfigError("Expected a trained model under an adapter, got one from scratch; leave lora out.")
    kept = folder / _TOKENIZER
    if config.tokenizer is not None:
        path = Path(config.tokenizer)
        if path.suffix == ".json" and path.is_file():
            return load_own_tokenizer(path.read_text(encoding="utf-8")), None
        checkpoint = open_checkpoint(resolve(config.tokenizer))
        return checkpoint.tokenizer(), checkpoint.chat_template
    if is_new or not kept.is_file():
        made = train_tokenizer(files.train, config.vocabulary_size)
        write_atomically(kept, made.to_json().encode())
    return load_own_tokenizer(kept.read_text(encoding="utf-8")), None
