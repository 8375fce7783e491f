"""What rendering a chat template may cost: steps, characters, time, and the size of any one value.

Templates come with model files and are hostile: a line of template can ask for terabytes or for years.
Each operation of a template is charged here before it runs; the first that does not fit ends the rendering.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from weft.errors import TokenizerError

MAX_STEPS = 500_000
MAX_SECONDS = 5.0
_FREE_CHARACTERS = 1 << 20
_MAX_DEPTH = 64
_MAX_INTEGER_BITS = 4096
# Characters that cost as much as one step, so that a few steps over long texts are bounded too.
_CHARACTERS_A_STEP = 4096


class Budget:
    """What is left for one rendering of a template whose inputs hold `input_characters`. For one thread."""

    def __init__(self, input_characters: int) -> None:
        self.largest_value = _FREE_CHARACTERS + 4 * input_characters
        self._output_left = 4 * _FREE_CHARACTERS + 8 * input_characters
        self._steps_left = MAX_STEPS
        self._deadline = time.monotonic() + MAX_SECONDS

    def step(self, characters: int = 0) -> None:
        """Charge one operation that reads or makes `characters`. Raises TokenizerError when too much."""
        self._steps_left -= 1 + characters // _CHARACTERS_A_STEP
        if self._steps_left < 0 or time.monotonic() > self._deadline:
            raise TokenizerError(
                f"the chat template takes more than {MAX_STEPS} steps or {MAX_SECONDS:g} s: it is faulty or "
                "hostile; give another template"
            )
        self._check_size(characters)

    def emit(self, characters: int) -> None:
        """Charge text that the template writes."""
        self.step(characters)
        self._output_left -= characters
        self._check_size(0 if self._output_left >= 0 else self.largest_value + 1)

    def ticked(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items of a loop, each charged as a step."""
        for item in items:
            self.step()
            yield item

    def _check_size(self, characters: int) -> None:
        if characters > self.largest_value:
            raise TokenizerError(
                f"the chat template makes a text of more than {self.largest_value} characters: it is faulty "
                "or hostile; give another template"
            )


_current: ContextVar[Budget | None] = ContextVar("template_budget", default=None)


def current_budget() -> Budget:
    """The budget of the rendering that is going on in this thread."""
    budget = _current.get()
    assert budget is not None, "templates are rendered inside spending()"
    return budget


@contextlib.contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Charge what templates do in the block to `budget`."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def measure(value: Any, most: int, depth: int = 0) -> int:
    """About how many characters `value` prints as, counted up to `most`, then it stops.

    Shared parts count each time they appear, as they do in print. Raises TokenizerError for nesting beyond
    a bound and for values that templates have no business to nest.
    """
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise TokenizerError(f"the chat template makes a number of more than {_MAX_INTEGER_BITS} bits")
        return 4 + value.bit_length() // 3
    if isinstance(value, list | tuple):
        return _measure_all(value, most, depth)
    if isinstance(value, dict):
        return _measure_all((part for pair in value.items() for part in pair), most, depth)
    if type(value).__name__ == "Namespace":
        raise TokenizerError("the chat template uses a namespace as a value, which it has no need to")
    return 32


def _measure_all(parts: Iterable[Any], most: int, depth: int) -> int:
    if depth >= _MAX_DEPTH:
        raise TokenizerError(f"the chat template nests values deeper than {_MAX_DEPTH}")
    total = 2
    for part in parts:
        total += 2 + measure(part, most - total, depth + 1)
        if total > most:
            break
    return total
