"""The settings of a run as files and callers give them: YAML, by the names of fields or flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.errors import ConfigError
from weft.train.config import TrainConfig, config_of
from weft.train.yaml_text import parse_yaml

# Of an adapter alone; told without one, it was forgotten.
_OF_ADAPTERS = ("rank", "alpha", "lora_dropout", "lora_layers")


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, by field name ("-" may stand for "_"). Raises ConfigError."""
    import yaml

    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file, got: {error.strerror}; check it.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected YAML, got: {reason}; correct it.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected lines of `name: value`, got {type(content).__name__}; see --help."
        )
    try:
        settings = {_field_name(str(name)): value for name, value in content.items()}
        config_of(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return settings


def _field_name(name: str) -> str:
    """The field that a file names: by its own name, or by its flag, with "-" or "_"."""
    plain = name.replace("-", "_")
    for field in dataclasses.fields(TrainConfig):
        if any(flag.lstrip("-").replace("-", "_") == plain for flag in field.metadata["flags"]):
            return field.name
    return plain


def joined_settings(path: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over the settings in the YAML file at `path`, if any. Raises ConfigError.

    Of steps and epochs, each of which takes the place of the other, those given win.
    """
    settings = read_settings(path) if path is not None else {}
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if given.get(name) is not None:
            settings.pop(other, None)
    return {**settings, **given}


def write_settings(config: TrainConfig) -> str:
    """The configuration as YAML, all fields in their order."""
    import yaml

    fields = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return text


def check_adapter(given: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises ConfigError where `given` tells of an adapter that a new run with `settings` does not train."""
    told = [name for name in _OF_ADAPTERS if given.get(name) not in (None, ())]
    if told and not settings.get("lora"):
        raise ConfigError(
            f"Expected lora with {', '.join(told)}, got a run that trains all weights; add lora, or leave "
            f"{', '.join(told)} out."
        )
