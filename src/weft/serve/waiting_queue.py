"""The requests that wait for a seat, in the order in which they are to get one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from weft.serve.sequence import Sequence

by_order = attrgetter("order")


class WaitingQueue:
    """Requests by priority, then by arrival; one that was put aside comes back to its place."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Puts `sequence` behind all that come before it."""
        insort(self._sequences, sequence, key=by_order)

    def take(self) -> Sequence:
        """Takes out the first one."""
        return self._sequences.pop(0)

    def remove(self, sequence: Sequence) -> None:
        """Takes out `sequence`; nothing where it is not here."""
        place = bisect_left(self._sequences, sequence.order, key=by_order)
        if place < len(self._sequences) and self._sequences[place] is sequence:
            del self._sequences[place]

    @property
    def first(self) -> Sequence | None:
        """The one whose turn it is, or None."""
        return self._sequences[0] if self._sequences else None

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)
