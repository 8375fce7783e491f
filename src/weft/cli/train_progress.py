"""The progress of a training run on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from weft.cli.output import printable
from weft.config import format_bytes
from weft.train.report import Callback, StepReport, TrainingResult

if TYPE_CHECKING:
    from weft.train.trainer import Trainer

_LINE_EVERY_S = 10.0
_BESIDE_NUMBERS = 20  # columns of a bar's line: the slash, at least six of the bar, the time left, and blanks


class PlainProgress(Callback):
    """Lines on stderr: every ten seconds, at the end, and whenever something besides a step happened."""

    def __init__(self) -> None:
        self.quiet = False
        self._last_line = 0.0
        self._checkpoint_shares: list[float] = []

    def introduce(self, trainer: Trainer) -> None:
        """Says what is about to run."""
        config, weights = trainer.config, trainer.weights
        count = sum(weight.size for weight in weights.values())
        memory = trainer.memory_bytes
        what = "vectors" if config.targets or config.max_seq_length == 1 else "tokens"
        self.say(
            f"{config.model}: {count:,} weights to train, {trainer.total_steps:,} steps of about "
            f"{config.rows_per_step * config.max_seq_length:,} {what} in {config.out}"
            + (f", memory {format_bytes(memory)}" if memory else "")
        )

    def say(self, text: str) -> None:
        """A line on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def on_begin(self, first_step: int, total_steps: int) -> None:
        if first_step:
            self.say(f"going on after step {first_step}")

    def on_step(self, report: StepReport) -> None:
        self._note(report)
        now = time.monotonic()
        if (
            report.validation is not None
            or report.sample is not None
            or now - self._last_line > _LINE_EVERY_S
            or report.step == report.total_steps
        ):
            self._last_line = now
            self.say(step_line(report))
        if report.validation is not None:
            self.say(validation_line(report))
        if report.sample is not None:
            self.say(f"sample: {printable(report.sample)}")

    def _note(self, report: StepReport) -> None:
        # The last checkpoint follows the one before at once: it says nothing of a run's course.
        if report.checkpoint_share is not None and report.step < report.total_steps:
            self._checkpoint_shares.append(report.checkpoint_share)

    def on_warning(self, message: str) -> None:
        print(f"weft: {message}", file=sys.stderr, flush=True)

    def on_end(self, result: TrainingResult) -> None:
        if self._checkpoint_shares:
            mean = sum(self._checkpoint_shares) / len(self._checkpoint_shares)
            self.say(f"checkpoints cost at most {mean:.2%} of the time between two")
        if result.reason == "early stop":
            self.say(f"stopped after {result.steps} steps, as the loss is best after {result.best_step}")

    def close(self) -> None:
        """Ends what is shown, however the run ended. A second call does nothing."""


class RichProgress(PlainProgress):
    """A bar with loss, speed and the time left; what happens besides appears above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task: Any = None

    def introduce(self, trainer: Trainer) -> None:
        super().introduce(trainer)
        trainer.measure_limits()

    def say(self, text: str) -> None:
        self._console.print(text)

    def on_begin(self, first_step: int, total_steps: int) -> None:
        super().on_begin(first_step, total_steps)
        self._bar.start()
        self._task = self._bar.add_task("train", total=total_steps, completed=first_step, numbers="")

    def on_step(self, report: StepReport) -> None:
        self._note(report)
        room = self._console.width - _BESIDE_NUMBERS - 2 * len(str(report.total_steps))
        self._bar.update(self._task, completed=report.step, numbers=fitting_numbers(report, room))
        if report.validation is not None:
            self.say(validation_line(report))
        if report.sample is not None:
            self.say(f"sample: {printable(report.sample)}")

    def on_end(self, result: TrainingResult) -> None:
        self.close()
        super().on_end(result)

    def close(self) -> None:
        self._bar.stop()  # or the terminal would stay without its cursor


def numbers(report: StepReport) -> str:
    """Loss, its average, speed, and the share of the machine's limit where that was measured."""
    share = f" ({report.limit_share:.0%} of the limit)" if report.limit_share is not None else ""
    return (
        f"loss {report.loss:.4f} (smoothed {report.smoothed_loss:.4f}), "
        f"{report.tokens_per_second:,.0f} {_unit(report)}/s{share}"
    )


def fitting_numbers(report: StepReport, room: int) -> str:
    """As many of `numbers` as `room` columns hold, the loss in any case."""
    loss, speed = f"loss {report.loss:.4f}", f"{report.tokens_per_second:,.0f}"
    share = f" ({report.limit_share:.0%})" if report.limit_share is not None else ""
    forms = (
        numbers(report),
        f"{loss} ({report.smoothed_loss:.4f}), {speed} {_unit(report)}/s{share}",
        f"{loss} ({report.smoothed_loss:.4f}), {speed}/s",
        f"{loss}, {speed}/s",
    )
    return next((form for form in forms if len(form) <= room), loss)


def _unit(report: StepReport) -> str:
    return "vectors" if report.accuracy is None else "tokens"


def step_line(report: StepReport) -> str:
    """A step in a line."""
    return f"step {report.step}/{report.total_steps}: {numbers(report)}, rate {report.learning_rate:.3g}"


def validation_line(report: StepReport) -> str:
    """An evaluation in a line."""
    held_out = report.validation
    assert held_out is not None
    best = " (best)" if report.is_best else ""
    if held_out.perplexity is None or held_out.accuracy is None:
        return f"step {report.step}: held-out mean squared error {held_out.loss:.6g}{best}"
    bits = f", {held_out.bits_per_byte:.3f} bits a byte" if held_out.bits_per_byte is not None else ""
    return (
        f"step {report.step}: held-out loss {held_out.loss:.4f}, perplexity {held_out.perplexity:.2f}, "
        f"accuracy {held_out.accuracy:.1%}{bits}{best}"
    )
