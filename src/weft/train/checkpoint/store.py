"""The checkpoints of a run: one thread writes them aside, the latest few and the best are kept."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from weft.errors import TrainingError
from weft.train.checkpoint.files import CheckpointContent, read_checkpoint, write_checkpoint
from weft.train.checkpoint.snapshot import Snapshot
from weft.types import Array

_NAME = re.compile(r"step-(\d+)")
_LEFTOVER = re.compile(r"\.step-\d+\.\d+\.part")


class CheckpointStore:
    """The folder `checkpoints/` of a run. `keep` of the latest ones stay, and the best.

    For one thread, which trains; writing is done by another.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._best: int | None = None
        self._snapshots: list[Snapshot] = []
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._stood_still = self._writing = 0.0

    @property
    def seconds(self) -> float:
        """What checkpoints have cost at most: the time for which the caller stood still, and that for which
        writing kept a core from computing.
        """
        return self._stood_still + self._writing

    def clean(self) -> None:
        """Removes what a killed run left half written."""
        for path in self.folder.glob(".step-*.part"):
            if _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps of which there are checkpoints, the latest last."""
        if not self.folder.is_dir():
            return []
        return sorted(
            int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))
        )

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of a step."""
        return self.folder / f"step-{step}"

    def save(
        self,
        step: int,
        arrays: Mapping[str, Mapping[str, Array]],
        state: Mapping[str, Any],
        best: int | None = None,
    ) -> None:
        """Begins to write a checkpoint of `arrays`, by file name; call `detach` before they change.

        best: the step whose checkpoint is the best, and stays. Waits for the one before it. Raises
        TrainingError when that could not be written.
        """
        begin = time.perf_counter()
        self.wait()
        self._best = best  # not before: the last one's writer still knows the best of its time
        snapshots = {name: Snapshot(content) for name, content in arrays.items()}
        self._snapshots = list(snapshots.values())
        self._thread = threading.Thread(
            target=self._write, args=(step, snapshots, dict(state)), name="weft-checkpoint", daemon=True
        )
        self._thread.start()
        self._stood_still += time.perf_counter() - begin

    def detach(self) -> None:
        """Makes a checkpoint that is being written independent of its arrays."""
        begin = time.perf_counter()
        for snapshot in self._snapshots:
            snapshot.detach()
        self._stood_still += time.perf_counter() - begin
        self._snapshots = []
        self._raise_error()

    def wait(self) -> None:
        """Waits until the checkpoint is on disk. Raises TrainingError when it could not be written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._snapshots = []
        self._raise_error()

    def newest(self, report: Callable[[str], None]) -> tuple[int, CheckpointContent] | None:
        """The latest checkpoint that is whole, or None; `report` is told of damaged ones."""
        for step in reversed(self.steps()):
            try:
                return step, read_checkpoint(self.path(step))
            except TrainingError as error:
                report(f"{error} Trying the one before it.")
        return None

    def forget_after(self, step: int) -> None:
        """Removes checkpoints of later steps, from which a run does not go on."""
        for later in self.steps():
            if later > step:
                shutil.rmtree(self.path(later), ignore_errors=True)

    def _write(self, step: int, snapshots: Mapping[str, Snapshot], state: Mapping[str, Any]) -> None:
        begin = time.thread_time()
        try:
            write_checkpoint(self.path(step), snapshots, state)
            self._prune()
        except BaseException as error:
            self._error = error
            # Nobody will take the rest; the trainer must not copy it.
            self._snapshots = []
        finally:
            self._writing += time.thread_time() - begin

    def _prune(self) -> None:
        kept = {*self.steps()[-self.keep :], self._best}
        for step in self.steps():
            if step not in kept:
                with contextlib.suppress(OSError):
                    _remove(self.path(step))

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            steps = self.steps()
            last = f"the last good one is {self.path(steps[-1])}" if steps else "there is none before it"
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TrainingError(
                f"{self.folder}: expected to write a checkpoint, got: {reason}; {last}. Make room or "
                "correct its permissions, then resume."
            ) from error


def _remove(folder: Path) -> None:
    """Out of sight first, so that a killed removal does not leave half a checkpoint under its name."""
    doomed = folder.with_name(f".{folder.name}.0.part")
    folder.rename(doomed)
    shutil.rmtree(doomed)
