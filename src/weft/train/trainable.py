"""What the trainer needs of a model: weights, and the gradient of a step's slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from weft.tracer import Tracer
from weft.train.data.slices import AnySlice, SliceResult
from weft.types import Array


class Trainable(Protocol):
    """Float32 weights by name, and what computes with them. For one thread at a time."""

    tracer: Tracer | None
    """Takes the runs of `run` while it is there."""

    @property
    def weights(self) -> Mapping[str, Array]:
        """The weights that are trained; an update changes them in place."""

    @property
    def gradients(self) -> Mapping[str, Array]:
        """Their gradients, of the same names and shapes; zero before a step."""

    def run(self, slices: Sequence[AnySlice]) -> list[SliceResult]:
        """Adds the gradient of Σ loss_weights · loss to `gradients`; the same bits for any threads."""

    def evaluate(self, slices: Sequence[AnySlice]) -> list[SliceResult]:
        """The losses alone; gradients stay as they are."""

    def locate_fault(self, slices: Sequence[AnySlice]) -> str | None:
        """The operation of the step in which the first value that is not finite appears, or None."""
