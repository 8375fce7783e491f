"""The progress of a batch on stderr: a bar with its speed on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from weft.serve.limits import EngineStatistics

_LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.25


class BatchProgress:
    """Counts results and tokens; shows nothing."""

    every_s = float("inf")

    def __init__(self, done: int, total: int) -> None:
        self.done = done
        self.total = total
        self.num_failed = 0
        self._began = time.monotonic()
        self._shown = self._began
        self._tokens = 0

    def stepped(self, statistics: EngineStatistics) -> None:
        """After a step of the engine: shows how far it is, now and then."""
        self._tokens = statistics.num_tokens
        now = time.monotonic()
        if now - self._shown >= self.every_s:
            self._shown = now
            self.show()

    def wrote(self, failed: bool) -> None:
        """After a result."""
        self.done += 1
        self.num_failed += failed

    @property
    def numbers(self) -> str:
        """Speed and errors."""
        speed = self._tokens / max(time.monotonic() - self._began, 1e-9)
        errors = f", {self.num_failed} errors" if self.num_failed else ""
        return f"{speed:,.0f} tokens/s{errors}"

    def show(self) -> None:
        """Shows how far it is."""

    def close(self) -> None:
        """Ends what is shown. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class LineProgress(BatchProgress):
    """A line every ten seconds."""

    every_s = _LINE_EVERY_S

    def show(self) -> None:
        """Writes a line."""
        print(f"{self.done} of {self.total}: {self.numbers}", file=sys.stderr, flush=True)


class BarProgress(BatchProgress):
    """A bar with speed and the time left."""

    every_s = _BAR_EVERY_S

    def __init__(self, done: int, total: int) -> None:
        super().__init__(done, total)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,  # no thread beside those that compute
        )
        self._task: Any = self._bar.add_task("batch", total=total, completed=done, numbers="")
        self._bar.start()

    def show(self) -> None:
        """Draws the bar."""
        self._bar.update(self._task, completed=self.done, numbers=self.numbers)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar.live.is_started:
            self.show()
            self._bar.stop()


def progress_of(quiet: bool, done: int, total: int) -> BatchProgress:
    """What suits stderr."""
    if quiet:
        return BatchProgress(done, total)
    return (BarProgress if sys.stderr.isatty() else LineProgress)(done, total)
