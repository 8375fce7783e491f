"""Courses of the learning rate: functions of the step's number alone."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A learning rate for each of `steps` steps: rising to `peak` in `warmup_steps`, then by its `kind`.

    "constant" stays; "linear" and "cosine" fall to `lowest` at the last step; "wsd" (warm-up, stable, decay)
    stays until the last `decay_steps`, in which it falls in a line to `lowest`.
    """

    kind: str
    peak: float
    lowest: float
    steps: int
    warmup_steps: int
    decay_steps: int

    def __call__(self, step: int) -> float:
        """The learning rate of step number `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return self.peak
        begin = self.steps - self.decay_steps if self.kind == "wsd" else self.warmup_steps
        done = min(1.0, max(0.0, (step + 1 - begin) / max(1, self.steps - begin)))
        share = (1 + math.cos(math.pi * done)) / 2 if self.kind == "cosine" else 1 - done
        return self.lowest + (self.peak - self.lowest) * share
