"""Adapters on the command line: one that answers by default, and others by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from weft.cli.options import flag

Command = Callable[..., Any]


def adapter_flags(command: Command) -> Command:
    """Adds --adapter, which may be repeated."""
    return flag(
        "--adapter",
        "adapters",
        multiple=True,
        metavar="[NAME=]PATH",
        help="Adapter to answer with: its folder, or a run's; with a NAME one to choose by it. "
        "May be repeated.",
    )(command)


def use_adapter_flag(command: Command) -> Command:
    """Adds --use-adapter."""
    return flag(
        "--use-adapter",
        "adapter",
        metavar="NAME",
        help="Answer with the adapter of this name; by default with the one without a name, or with none.",
    )(command)


def default_and_named(adapters: tuple[str, ...]) -> tuple[str | None, dict[str, str]]:
    """Of values of --adapter the path without a name, if any, and the paths by their names.

    Raises a usage error where two have no name, or the same one.
    """
    default = [adapter for adapter in adapters if "=" not in adapter]
    if len(default) > 1:
        raise click.UsageError(
            f"Expected one --adapter without a name, got {len(default)}; write NAME={default[1]}."
        )
    named: dict[str, str] = {}
    for adapter in adapters:
        name, equals, path = adapter.partition("=")
        if equals and name in named:
            raise click.UsageError(f"Expected one --adapter of the name {name!r}, got two; rename one.")
        if equals:
            named[name] = path
    return default[0] if default else None, named


def check_use(adapter: str | None, named: dict[str, str]) -> None:
    """Raises a usage error for a name that no adapter has, before a model is loaded."""
    if adapter is not None and adapter not in named:
        known = ", ".join(named) or "none"
        raise click.UsageError(
            f"Expected --use-adapter with a name given by --adapter ({known}), got {adapter!r}; "
            f"add --adapter {adapter}=PATH."
        )
