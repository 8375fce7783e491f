"""What chat templates may call: filters, functions and methods, each charged to the budget before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined

from weft.errors import TokenizerError
from weft.io.text.template_budget import current_budget, measure

# Filters that make no more than they are given.
_HARMLESS_FILTERS = (
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "groupby", "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "string", "striptags", "title",
    "trim", "truncate", "unique", "upper", "wordcount",
)  # fmt: skip
_PADDING_METHODS = frozenset({"center", "ljust", "rjust", "zfill"})
# Methods that templates may call on values, by the values' type; others can make more than they are given.
_METHODS = {
    str: _PADDING_METHODS | {
        "capitalize", "casefold", "count", "endswith", "expandtabs", "find", "format", "index", "isalnum",
        "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper",
        "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex",
        "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title",
        "upper",
    },
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
}  # fmt: skip
_WIDE_FIELD = re.compile(r"\d{4,}|\*|\{[^{}]*\{")
_TIME_FORMAT = re.compile(r"(?:%-?[A-Za-z%]|[^%])*")
_MAX_EXPONENT_BITS = 4096


def filters() -> dict[str, Callable[..., Any]]:
    """Every filter by its name; those named weft_ are put in by the rewriting of the syntax tree."""
    own = {
        "join": _join,
        "replace": _replace,
        "indent": _indent,
        "round": _round,
        "sum": _sum,
        "tojson": _tojson,
    }
    harmless = {name: FILTERS[name] for name in _HARMLESS_FILTERS}
    charged = {name: _charged(function) for name, function in (harmless | own).items()}
    return charged | {"weft_loop": _loop, "weft_built": _built, "weft_concat": _concat}


def functions() -> dict[str, Callable[..., Any]]:
    """Every function by its name."""
    return {
        "range": _range,
        "dict": _dict,
        "namespace": jinja2.utils.Namespace,
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }


# Functions that take the context are never run by the compiler on constants.
@pass_context
def charge_output(context: Context, value: Any) -> Any:
    budget = current_budget()
    budget.emit(measure(value, budget.largest_value))
    return value


def product_size(left: Any, right: Any, sizes: tuple[int, int]) -> int:
    """How large `left * right` is: a text or list times a number, or two numbers."""
    if isinstance(left, int) and not isinstance(right, int | float):
        return sizes[1] * max(left, 0)
    if isinstance(right, int) and not isinstance(left, int | float):
        return sizes[0] * max(right, 0)
    return sum(sizes)


def check_power(left: Any, right: Any) -> None:
    if (
        isinstance(left, int)
        and isinstance(right, int)
        and left.bit_length() * max(right, 0) > _MAX_EXPONENT_BITS
    ):
        raise TokenizerError(f"the chat template computes a number of more than {_MAX_EXPONENT_BITS} bits")


def check_format(pattern: str, argument_size: int) -> None:
    """Refuse formats that blow up: wide fields, nested fields, many fields of large arguments."""
    if _WIDE_FIELD.search(pattern):
        raise TokenizerError(
            "the chat template formats with a field of 1000 characters or more, or a computed width"
        )
    fields = pattern.count("%") + pattern.count("{")
    current_budget().step(len(pattern) + fields * (argument_size + 1000))


def check_method(owner: Any, name: str, args: tuple[Any, ...], size: int) -> None:
    """Refuse methods of unknown cost; charge what a method of a text can make beyond what it is given."""
    if not any(name in allowed for kind, allowed in _METHODS.items() if isinstance(owner, kind)):
        raise TokenizerError(
            f"the chat template calls {type(owner).__name__}.{name}, which templates may not"
        )
    numbers = [arg for arg in args if isinstance(arg, int)]
    if name in _PADDING_METHODS:
        current_budget().step(max([0, *numbers]))
    elif name == "expandtabs":
        current_budget().step(len(owner) * max([8, *numbers]))
    elif name == "format":
        check_format(owner, size)
    elif name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        current_budget().step(owner.count(args[0]) * len(args[1]))
    elif name == "join" and args and isinstance(args[0], list | tuple | dict):
        current_budget().step(len(owner) * len(args[0]))


@pass_context
def _loop(context: Context, items: Any) -> Any:
    return current_budget().ticked(items)


@pass_context
def _built(context: Context, value: Any) -> Any:
    budget = current_budget()
    budget.step(measure(value, budget.largest_value))
    return value


@pass_context
def _concat(context: Context, parts: list[Any]) -> str:
    budget = current_budget()
    budget.step(measure(parts, budget.largest_value))
    return "".join(str(part) for part in parts)


def _charged(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a filter that pays for its arguments first."""
    wants = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def charged(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = current_budget()
        budget.step(measure([*args, *kwargs.values()], budget.largest_value))
        if wants is None:
            return function(*args, **kwargs)
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        return function(first[wants.name], *args, **kwargs)

    return charged


def _join(value: Any, d: str = "", attribute: str | int | None = None) -> str:
    parts = list(current_budget().ticked(value))
    if attribute is not None:
        parts = [part[attribute] for part in parts]
    current_budget().step(measure(parts, current_budget().largest_value) + len(str(d)) * len(parts))
    return str(d).join(str(part) for part in parts)


def _replace(text: Any, old: Any, new: Any, count: int = -1) -> str:
    whole, before, after = str(text), str(old), str(new)
    check_method(whole, "replace", (before, after), 0)
    return whole.replace(before, after, -1 if count is None else count)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    lines = str(text).splitlines(keepends=True)
    margin = width if isinstance(width, str) else " " * min(width, 1000)
    current_budget().step(len(margin) * len(lines))
    indented = [
        margin + line if (n or first) and (blank or line.strip()) else line for n, line in enumerate(lines)
    ]
    return "".join(indented)


def _round(value: Any, precision: int = 0, method: str = "common") -> float:
    if not -20 <= precision <= 20:
        raise TokenizerError(f"the chat template rounds to {precision} digits, at most 20 were expected")
    rounded: float = FILTERS["round"](float(value), precision, method)
    return rounded


def _sum(values: Any, attribute: str | None = None, start: float = 0) -> Any:
    parts = [part[attribute] if attribute is not None else part for part in current_budget().ticked(values)]
    if not all(isinstance(part, int | float) for part in [*parts, start]):
        raise TokenizerError("the chat template sums what are not numbers")
    return sum(parts, start)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face's templates expect it: without HTML escapes, of all Unicode characters."""
    if isinstance(value, Undefined):
        raise TokenizerError("the chat template writes an undefined value as JSON")
    if indent is not None and not 0 <= indent <= 16:
        raise TokenizerError(f"the chat template indents JSON by {indent}, at most 16 was expected")
    current_budget().step(measure(value, current_budget().largest_value) * (1 + (indent or 0)))
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    current_budget().step(len(numbers))
    return numbers


def _dict(**entries: Any) -> dict[str, Any]:
    return entries


def _raise_exception(message: Any) -> None:
    raise TokenizerError(f"the chat template refuses these messages: {str(message)[:500]}")


def _strftime_now(pattern: str) -> str:
    if len(pattern) > 100 or not _TIME_FORMAT.fullmatch(pattern):
        raise TokenizerError(
            f"the chat template asks for the time as {pattern[:40]!r}: plain % codes were expected"
        )
    return datetime.now().strftime(pattern)
