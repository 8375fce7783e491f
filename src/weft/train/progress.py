"""What a run knows beside its weights: how far it is, its best evaluation, its smoothed loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.train.evaluate import Evaluation

_SMOOTHING = 0.95


@dataclass
class Progress:
    """Saved in every checkpoint. step: steps done, which is also the position in the data."""

    step: int = 0
    loss: float = 0.0
    smoothed_loss: float = 0.0
    tokens: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    evaluations_since_best: int = 0

    def count(self, loss: float, tokens: int) -> None:
        """A step of that loss is done."""
        self.loss = loss
        self.smoothed_loss = _SMOOTHING * self.smoothed_loss + (1 - _SMOOTHING) * loss if self.step else loss
        self.step += 1
        self.tokens += tokens

    def judge(self, evaluation: Evaluation) -> bool:
        """Notes an evaluation of the present step; whether it is the best so far."""
        is_best = self.best_loss is None or evaluation.loss < self.best_loss
        if is_best:
            self.best_step, self.best_loss, self.evaluations_since_best = self.step, evaluation.loss, 0
        else:
            self.evaluations_since_best += 1
        return is_best

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Progress:
        """The progress that `state` was made from."""
        return cls(**state)
