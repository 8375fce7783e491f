"""Tables, bars and numbers for terminals: plain where nobody looks, in colour where NO_COLOR does not forbid.

rich is imported when something is printed: commands that print no table start without it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 160  # of a file or pipe: nothing is folded or cut there


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr that follows NO_COLOR, and that folds nothing in a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", numeric: Iterable[str] = ()
) -> None:
    """Prints rows of texts under `columns`, those named in `numeric` to the right."""
    from rich.table import Table

    right = set(numeric)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        # Names may fold in a narrow terminal, numbers may not.
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column in right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    out = console()
    if title:
        out.print(title, style="bold", soft_wrap=True)
    for line in _rendered(out, table):
        print(line)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Prints names and values, a line each, the values in a column."""
    listed = list(pairs)
    width = max(len(name) for name, _ in listed)
    out = console()
    for name, value in listed:
        out.print(f"{name:<{width}}", style="bold", end="  ")
        out.print(value, soft_wrap=True)


def print_json(value: Any) -> None:
    """Prints `value` as JSON, for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def percent(share: float | None) -> str:
    """A share for people: 93 %; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.0f} %"


def rate(tokens_per_second: float) -> str:
    """Tokens a second for people, with three digits or all before the point."""
    return f"{tokens_per_second:,.1f}" if tokens_per_second < 1000 else f"{tokens_per_second:,.0f}"


def plural(count: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _rendered(out: Console, table: Any) -> Iterable[str]:
    """The lines of a table, without the blanks at their ends."""
    with out.capture() as captured:
        out.print(table)
    return (line.rstrip() for line in captured.get().splitlines())
