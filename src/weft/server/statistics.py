"""What the server counts, in the forms that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts of observations up to each of `bounds`. One thread observes; any may read."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts `value`."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, text: str) -> Iterator[str]:
        """The histogram in Prometheus' text format."""
        yield from _head(name, text, "histogram")
        totals = list(accumulate(self._counts))
        for bound, total in zip((*map(str, self._bounds), "+Inf"), totals, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {totals[-1]}"


class ServerStatistics:
    """Counts since the start. Tokens and times are the engine thread's, statuses the event loop's."""

    def __init__(self) -> None:
        self.first_token_s = Histogram()
        self.between_tokens_s = Histogram()
        self.whole_s = Histogram()
        self.prompt_tokens = 0
        self.answer_tokens = 0
        self.finished: Counter[str] = Counter()
        self.by_adapter: Counter[int] = Counter()  # answers, by the adapter's number; 0 is the model itself
        self.responses: Counter[tuple[str, int]] = Counter()  # by endpoint and status
        self.disconnects = 0


def counter_lines(name: str, text: str, value: float | Mapping[str, float]) -> Iterator[str]:
    """A counter in Prometheus' text format; a mapping gives one line for each set of labels."""
    yield from _head(name, text, "counter")
    yield from _values(name, value)


def gauge_lines(name: str, text: str, value: float | Mapping[str, float]) -> Iterator[str]:
    """A gauge in Prometheus' text format."""
    yield from _head(name, text, "gauge")
    yield from _values(name, value)


def labels(**values: object) -> str:
    """Labels as Prometheus writes them."""
    escaped = {
        name: str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for name, value in values.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _values(name: str, value: float | Mapping[str, float]) -> Iterator[str]:
    for label, number in value.items() if isinstance(value, Mapping) else [("", value)]:
        yield f"{name}{label} {number:.6g}" if isinstance(number, float) else f"{name}{label} {number}"
