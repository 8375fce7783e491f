"""Write the reference pages from the code: docs/commands.md from the commands, docs/api.md from docstrings.

python tools/make_docs.py [--check]     --check fails when a page is not what the code says
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import weft
from weft.cli.main import weft as command_group

DOCS = Path(__file__).parents[1] / "docs"
GENERATED = "<!-- Made by tools/make_docs.py from the code: change it there. -->"


def commands_page() -> str:
    """Every command with its arguments and flags."""
    group = command_group
    context = click.Context(group, info_name="weft")
    lines = ["# Commands", "", GENERATED, ""]
    lines += [
        "`python -m weft` is the same as `weft`. Every flag has an environment twin. Exit codes: 0 done,",
        "1 failed, 2 wrong usage, 130 interrupted.",
        "",
    ]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        lines += command_section(command, click.Context(command, info_name=f"weft {name}", parent=None))
    return "\n".join(lines)


def command_section(command: click.Command, context: click.Context) -> Iterator[str]:
    """The section of one command."""
    usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
    yield from (f"## {context.info_name}", "", f"`{usage}`", "")
    yield from (*inspect.cleandoc(command.help or "").replace("\b\n", "").splitlines(), "")
    rows = [option_row(option) for option in command.params if isinstance(option, click.Option)]
    rows = [row for row in rows if row]
    if rows:
        yield from ("| flag | environment | |", "|---|---|---|", *rows, "")


def option_row(option: click.Option) -> str:
    """A row of the table of flags; empty for a hidden one."""
    if option.hidden:
        return ""
    value = "" if option.is_flag else f" {metavar(option)}"
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    variable = f"`{option.envvar}`" if option.envvar else ""
    return f"| {names}{value} | {variable} | {(option.help or '').replace('|', '/')} |"


def metavar(option: click.Option) -> str:
    """What stands for the option's value."""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return " or ".join(str(choice) for choice in option.type.choices)
    return option.type.name.upper()


def api_page() -> str:
    """Every public name of the package, with its docstring and, for classes, its public members."""
    lines = ["# Python API", "", GENERATED, ""]
    for name in weft.__all__:
        lines += name_section(name, getattr(weft, name))
    return "\n".join(lines)


def name_section(name: str, item: Any) -> Iterator[str]:
    """The section of one public name."""
    is_error = inspect.isclass(item) and issubclass(item, BaseException)
    yield from (f"## weft.{name}", "")
    if not is_error:
        yield from ("```python", f"weft.{name}{signature(item)}", "```", "")
    yield from (*inspect.cleandoc(item.__doc__ or "").splitlines(), "")
    if inspect.isclass(item) and not is_error:
        yield from members(item)


def members(item: type) -> Iterator[str]:
    """The public fields, properties and methods of a class."""
    if dataclasses.is_dataclass(item):
        documented = [field for field in dataclasses.fields(item) if field.metadata.get("help")]
        yield from (f"- `{field.name}`: {field.metadata['help']}" for field in documented)
        if documented:
            yield ""
    for name, member in vars(item).items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            yield from (f"**`{name}`** {one_line(member)}", "")
        elif inspect.isfunction(member):
            yield from (f"**`{name}{signature(member)}`** {one_line(member)}", "")


def one_line(member: object) -> str:
    """A docstring with its line ends folded."""
    return " ".join((inspect.getdoc(member) or "").split())


def signature(item: Any) -> str:
    """The parameters, without `self` and without what annotations say in full."""
    try:
        found = inspect.signature(item)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [part.replace(annotation=inspect.Parameter.empty) for part in found.parameters.values()]
    shown = found.replace(
        parameters=[part for part in parameters if part.name != "self"],
        return_annotation=inspect.Signature.empty,
    )
    return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", str(shown))


PAGES = {"commands.md": commands_page, "api.md": api_page}


def main() -> int:
    """Write the pages, or check them; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is outdated")
    check = parser.parse_args().check
    outdated = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make().rstrip() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            outdated.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and outdated:
        print(f"outdated: {', '.join(outdated)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
