"""What a step of training tells: to loops, callbacks and the log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.train.evaluate import Evaluation


@dataclass(frozen=True)
class StepReport:
    """A step that is done.

    step: how many are done, this one included, of `total_steps`. loss: mean natural-log loss of its tokens
    before the update (of vectors, their mean squared error; they have no accuracy); smoothed_loss: its moving
    average. gradient_norm: before clipping. tokens: inputs of
    the step, tokens_per_second of the whole step. epoch: epochs done. validation: where it was evaluated.
    limit_share: of the speed that the machine's measured limits allow, where they were measured
    (`Trainer.measure_limits`). checkpoint_share: with a checkpoint, the share of the time since the one
    before that it cost at most: training stood still, or writing kept a core.
    """

    step: int
    total_steps: int
    loss: float
    smoothed_loss: float
    accuracy: float | None
    learning_rate: float
    gradient_norm: float
    tokens: int
    tokens_per_second: float
    epoch: float
    validation: Evaluation | None = None
    is_best: bool = False
    sample: str | None = None
    checkpoint: Path | None = None
    limit_share: float | None = None
    checkpoint_share: float | None = None

    def line(self) -> dict[str, Any]:
        """The report as a line of the log."""
        line: dict[str, Any] = {
            "step": self.step,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "tokens_per_second": self.tokens_per_second,
            "accuracy": self.accuracy,
            "gradient_norm": self.gradient_norm,
            "tokens": self.tokens,
            "epoch": self.epoch,
            "limit_share": self.limit_share,
            "checkpoint_share": self.checkpoint_share,
        }
        if self.validation is not None:
            line |= {
                "valid_loss": self.validation.loss,
                "valid_perplexity": self.validation.perplexity,
                "valid_accuracy": self.validation.accuracy,
                "valid_bits_per_byte": self.validation.bits_per_byte,
            }
        return line | ({"sample": self.sample} if self.sample is not None else {})


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended. reason: "done", "early stop" or "interrupted". final: its Hugging Face folder.

    weights_sha256: checksum over all weights by name, equal where they are equal to the bit.
    """

    steps: int
    loss: float
    reason: str
    folder: Path
    final: Path | None
    best_step: int | None
    best_loss: float | None
    weights_sha256: str


class Callback:
    """Told what happens in a run; inherit and override. An exception of a callback ends the run."""

    def on_begin(self, first_step: int, total_steps: int) -> None:
        """The run begins, after `first_step` steps that an earlier process did."""

    def on_step(self, report: StepReport) -> None:
        """A step is done."""

    def on_warning(self, message: str) -> None:
        """Something is not as it should be, and the run goes on."""

    def on_end(self, result: TrainingResult) -> None:
        """The run has ended, whole or interrupted."""
