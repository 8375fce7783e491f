"""Flags from the fields of settings: each field's flags, help and type; each flag's environment twin."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

import click

from weft.config import EngineConfig
from weft.serve.sampling import SamplingParams

Command = Callable[..., Any]


class _WholeText(click.types.StringParamType):
    """A text that may hold blanks; its environment twin is one value, not a list."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class _FileText(click.types.StringParamType):
    """The text of a file; - is stdin."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            with click.open_file(value, encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"Expected a file of text, got {error}; name another.", param, ctx)


# What click is to make of a field whose annotation says more than a flag can.
_TYPES: dict[str, Any] = {
    "logprobs": click.INT,
    "kv_memory": click.STRING,
    "json_schema": _FileText(),
    "grammar": _FileText(),
}


def setting_flags(settings: type, *leave_out: str) -> Callable[[Command], Command]:
    """A decorator that adds the flags of all fields of the dataclass `settings` that have some."""

    def add(command: Command) -> Command:
        hints = typing.get_type_hints(settings)
        for field in reversed(dataclasses.fields(settings)):
            if field.metadata.get("flags") and field.name not in leave_out:
                command = _option(field, hints[field.name])(command)
        return command

    return add


def engine_flags(command: Command) -> Command:
    """Adds the flags of `EngineConfig`."""
    return setting_flags(EngineConfig)(command)


def sampling_flags(*leave_out: str) -> Callable[[Command], Command]:
    """Adds the flags of `SamplingParams`."""
    return setting_flags(SamplingParams, *leave_out)


def model_flag(required: bool = True) -> Callable[[Command], Command]:
    """Adds -m/--model."""
    return flag("-m", "--model", required=required, metavar="MODEL", help="Name, folder or file of a model.")


def flag(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """A click option with its environment twin: WEFT_ and its last long flag in capitals."""
    last = [name for name in names if name.startswith("--")][-1]
    return click.option(*names, envvar=env_name(last), show_envvar=True, **attributes)


def env_name(name: str) -> str:
    """The environment twin of a flag: WEFT_TOP_P of --top-p."""
    return "WEFT_" + name.lstrip("-").replace("-", "_").upper()


def given(settings: type, values: dict[str, Any]) -> dict[str, Any]:
    """Takes out of `values`, the arguments of a command, those fields of `settings` that the user set."""
    names = [field.name for field in dataclasses.fields(settings) if field.name in values]
    found = {name: values.pop(name) for name in names}
    return {name: value for name, value in found.items() if value is not None and value != ()}


def one_model(name: str | None, model: str | None) -> str:
    """The model named by the argument, which wins over a flag's environment twin."""
    context = click.get_current_context()
    from_flag = context.get_parameter_source("model") is click.core.ParameterSource.COMMANDLINE
    if name and model and from_flag and name != model:
        raise click.UsageError(f"Expected one model, got {name} and -m {model}; leave one out.", context)
    chosen = name or model
    if not chosen:
        raise click.UsageError("Expected a model, got none; name one that `weft list` shows.", context)
    return chosen


def _option(field: dataclasses.Field[Any], hint: Any) -> Callable[[Command], Command]:
    metadata = field.metadata
    attributes: dict[str, Any] = {"help": metadata["help"] + _default_text(field), "default": None}
    if hint is bool:
        attributes["is_flag"] = True
    elif metadata["choices"]:
        attributes["type"] = click.Choice(metadata["choices"])
    elif field.name == "stop" or hint == tuple[str, ...]:
        attributes["multiple"] = True
        attributes["type"] = _WholeText()
        attributes["default"] = ()
    else:
        attributes["type"] = _TYPES.get(field.name) or _scalar(hint)
    return flag(*metadata["flags"], field.name, **attributes)


def _default_text(field: dataclasses.Field[Any]) -> str:
    shown = field.default not in (None, (), False)
    return f" [default: {field.default}]" if shown else ""


def _scalar(hint: Any) -> type:
    """int of `int | None`."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    assert hint in (int, float, str), hint
    return typing.cast(type, hint)
