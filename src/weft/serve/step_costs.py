"""What a step costs by its number of rows, learned from the steps that were run."""

from __future__ import annotations

from bisect import bisect_left, insort

_LEARNING_RATE = 0.2
_MOST_GROWTH = 1.5  # of one observation over what was expected: the system may have put the process aside
_LIFE = 2000  # steps after which a cost that was not seen again is forgotten
# Before anything is known: a step of one row reads all weights, and each further row adds a quarter of that.
_ROWS_OF_READING = 3


class StepCosts:
    """Seconds of a step of n rows: measured where such steps ran, in between and beyond by proportion."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._last_seen: dict[int, int] = {}
        self._known: list[int] = []  # numbers of rows with a cost, ascending
        self._num_seen = 0

    def observe(self, num_rows: int, seconds: float) -> None:
        """Takes note of a step that was run."""
        self._num_seen += 1
        if not self._known:
            self._seconds[num_rows] = seconds
        else:
            expected = self.estimate(num_rows)
            change = min(seconds, _MOST_GROWTH * expected) - expected
            rate = _LEARNING_RATE if num_rows in self._seconds else 1.0
            self._seconds[num_rows] = expected + rate * change
        if num_rows not in self._last_seen:
            insort(self._known, num_rows)
        self._last_seen[num_rows] = self._num_seen
        if self._num_seen % _LIFE == 0:
            self._forget_old()

    def estimate(self, num_rows: int) -> float:
        """Seconds of a step of `num_rows`; before the first observation in units of its own."""
        if (known := self._seconds.get(num_rows)) is not None:
            return known
        if not self._known:
            return float(num_rows + _ROWS_OF_READING)
        place = bisect_left(self._known, num_rows)
        if 0 < place < len(self._known):
            low, high = self._known[place - 1], self._known[place]
            share = (num_rows - low) / (high - low)
            return self._seconds[low] * (1 - share) + self._seconds[high] * share
        nearest = self._known[min(place, len(self._known) - 1)]
        return self._seconds[nearest] * (num_rows + _ROWS_OF_READING) / (nearest + _ROWS_OF_READING)

    def _forget_old(self) -> None:
        self._known = [rows for rows in self._known if self._last_seen[rows] > self._num_seen - _LIFE]
        self._seconds = {rows: self._seconds[rows] for rows in self._known}
        self._last_seen = {rows: self._last_seen[rows] for rows in self._known}
