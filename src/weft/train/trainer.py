"""The training loop: batch, gradient, update, and now and then an evaluation, a sample, a checkpoint."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weft.errors import ConfigError, TrainingError
from weft.tracer import Tracer
from weft.train.checkpoint.files import CheckpointContent, read_checkpoint
from weft.train.checkpoint.store import CheckpointStore
from weft.train.config import TrainConfig
from weft.train.data.batches import BatchSource, Prefetcher
from weft.train.data.slices import AnySlice
from weft.train.evaluate import Evaluation, summarize
from weft.train.interruption import Interruption
from weft.train.log import StepLog
from weft.train.optimizer import Optimizer
from weft.train.progress import Progress
from weft.train.report import Callback, StepReport, TrainingResult
from weft.train.run_folder import RunFolder
from weft.train.schedules import Schedule
from weft.train.trainable import Trainable
from weft.types import Array

WEIGHTS_FILE, _OPTIMIZER_FILE = "weights.safetensors", "optimizer.safetensors"


@dataclass(frozen=True)
class TrainingParts:
    """What a trainer puts together.

    evaluate: measures the present weights on what is held out. export: writes the result, a Hugging Face
    folder. sample: continues a prompt with the present weights. data_key: names the content of the data.
    least_seconds: measures the machine; gives the least time that it could take for a row.
    """

    model: Trainable
    optimizer: Optimizer
    schedule: Schedule
    batches: BatchSource
    data_key: str
    export: Callable[[Path], None]
    evaluate: Callable[[], Evaluation] | None = None
    sample: Callable[[str], str] | None = None
    close: Callable[[], None] = lambda: None
    memory_bytes: int | None = None
    least_seconds: Callable[[], float] | None = None


class Trainer:
    """Trains a model in a run folder; iterate over it, or call `run`. For one thread.

    Each step is an item. Leaving the loop early saves a checkpoint, as Ctrl-C does. Raises TrainingError when
    the loss diverges or the folder cannot be written.

    >>> for step in trainer:
    ...     print(step.step, step.loss)
    """

    def __init__(
        self, config: TrainConfig, parts: TrainingParts, folder: RunFolder, callbacks: Sequence[Callback] = ()
    ) -> None:
        self.config = config
        self.folder = folder
        self.callbacks = list(callbacks)
        self.progress = Progress()
        self.reason = "done"
        self._parts = parts
        self._store = CheckpointStore(folder.checkpoints, config.keep_checkpoints)
        self._interruption = Interruption()
        self._loop: Callable[[], Generator[StepReport, None, None] | None] = lambda: (
            None
        )  # the last one begun

    @property
    def weights(self) -> Mapping[str, Array]:
        """The float32 weights that are trained, by name, as they are now."""
        return self._parts.model.weights

    @property
    def tracer(self) -> Tracer | None:
        """What takes the runs of the model, to keep what its threads do; None: nothing does."""
        return self._parts.model.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        self._parts.model.tracer = tracer

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self._parts.schedule.steps

    @property
    def memory_bytes(self) -> int | None:
        """Memory that the run needs at its peak, where it is known."""
        return self._parts.memory_bytes

    def resume(self) -> int:
        """Goes back to the newest whole checkpoint of the folder; the steps done by then, 0 without one.

        Raises TrainingError for one that belongs to another model, ConfigError when the data has changed.
        """
        self._store.clean()
        found = self._store.newest(self._warn)
        if found is None:
            if self._store.steps():
                raise TrainingError(
                    f"{self.folder.checkpoints}: expected a whole checkpoint, got damaged ones alone; "
                    "start anew."
                )
            return 0
        step, content = found
        self._restore(content)
        self._store.forget_after(step)
        return step

    def run(self) -> TrainingResult:
        """Trains to the end, or until Ctrl-C, and writes the result."""
        for _ in self:
            pass
        return self.finish()

    def __iter__(self) -> Iterator[StepReport]:
        loop = self._steps()
        self._loop = weakref.ref(loop)  # a loop that was left ends at once, as long as nobody else holds it
        return loop

    def _steps(self) -> Generator[StepReport, None, None]:
        self.reason = "interrupted"
        progress = self.progress
        self._last_save = time.perf_counter(), self._store.seconds
        for callback in self.callbacks:
            callback.on_begin(progress.step, self.total_steps)
        make = self._parts.batches
        with (
            self._interruption,
            StepLog(self.folder.log, progress.step) as log,
            Prefetcher(make, progress.step) as ahead,
        ):
            try:
                while progress.step < self.total_steps and not self._is_over():
                    report = self._step(ahead)
                    log.write(report.line())
                    for callback in self.callbacks:
                        callback.on_step(report)
                    yield report
                if progress.step >= self.total_steps:
                    self.reason = "done"
            except TrainingError:
                self._end_writing()
                raise
            except BaseException:
                # Left early, or broken off within a step: what is done is kept, if the weights are whole.
                self._save_if_whole()
                raise
            self._save_if_whole()

    def finish(self) -> TrainingResult:
        """Writes the result of a run that is done; of one that was interrupted only where it stands."""
        final = None
        if self.reason == "early stop" and self.progress.best_step is not None:
            self._load_best(self._store.path(self.progress.best_step))
        if self.reason != "interrupted":
            self._parts.export(self.folder.final)
            final = self.folder.final
        result = TrainingResult(
            steps=self.progress.step,
            loss=self.progress.loss,
            reason=self.reason,
            folder=self.folder.path,
            final=final,
            best_step=self.progress.best_step,
            best_loss=self.progress.best_loss,
            weights_sha256=hash_weights(self.weights),
        )
        for callback in self.callbacks:
            callback.on_end(result)
        return result

    def evaluate(self) -> Evaluation | None:
        """The loss on held-out rows with the present weights; None where none are held out."""
        return None if self._parts.evaluate is None else self._parts.evaluate()

    def save(self) -> Path:
        """Begins to write a checkpoint of the present step; it appears when it is whole."""
        step = self.progress.step
        arrays = {WEIGHTS_FILE: self.weights, _OPTIMIZER_FILE: self._parts.optimizer.state}
        state = {"progress": self.progress.state(), "data": self._parts.data_key, "seed": self.config.seed}
        self._store.save(step, arrays, state, self.progress.best_step)
        self._saved_step = step
        return self._store.path(step)

    def measure_limits(self) -> None:
        """Measures the machine, in a second or two, so that reports say the share of its limits."""
        if self._parts.least_seconds is not None:
            self._least_row_seconds = self._parts.least_seconds()

    def close(self) -> None:
        """Saves and ends a loop that an error left open; gives back threads and memory, and the folder to
        other processes. A second call does nothing.
        """
        try:
            loop = self._loop()
            if loop is not None and inspect.getgeneratorstate(loop) != inspect.GEN_RUNNING:
                loop.close()
        finally:
            self._parts.close()
            self.folder.close()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    _least_row_seconds: float | None = None
    _last_save = 0.0, 0.0  # when, and the seconds that checkpoints had taken by then
    _saved_step: int | None = None
    _whole = True  # whether the weights are those after a whole number of steps

    def _step(self, ahead: Prefetcher) -> StepReport:
        begin = time.perf_counter()
        parts, progress = self._parts, self.progress
        slices = ahead.next()
        results = parts.model.run(slices)
        measured = summarize(results)
        norm = parts.optimizer.gradient_norm()
        if not (math.isfinite(measured.loss) and math.isfinite(norm)):
            raise self._diverged(slices, measured.loss, norm)
        # A checkpoint that is still being written must be of the weights before the update.
        self._store.detach()
        learning_rate = parts.schedule(progress.step)
        self._whole = False
        parts.optimizer.step(norm, learning_rate, progress.step + 1)
        tokens = sum(item.num_rows for item in slices)
        progress.count(measured.loss, tokens)
        self._whole = True
        seconds = time.perf_counter() - begin
        return self._finished_step(measured, norm, learning_rate, tokens, tokens / seconds)

    def _finished_step(
        self, measured: Evaluation, norm: float, learning_rate: float, tokens: int, speed: float
    ) -> StepReport:
        config, progress = self.config, self.progress
        step, is_last = progress.step, progress.step == self.total_steps
        validation, is_best, sample, checkpoint = None, False, None, None
        if _is_due(step, config.eval_every, is_last) and (validation := self.evaluate()) is not None:
            is_best = progress.judge(validation)
        if self._parts.sample is not None and _is_due(step, config.sample_every, is_last):
            sample = self._parts.sample(config.sample_prompt)
        if step % config.save_every == 0 or is_best or is_last:
            checkpoint = self.save()
        least = self._least_row_seconds
        return StepReport(
            step=step,
            total_steps=self.total_steps,
            loss=measured.loss,
            smoothed_loss=progress.smoothed_loss,
            accuracy=measured.accuracy,
            learning_rate=learning_rate,
            gradient_norm=norm,
            tokens=tokens,
            tokens_per_second=speed,
            epoch=self._parts.batches.epoch(step),
            validation=validation,
            is_best=is_best,
            sample=sample,
            checkpoint=checkpoint,
            limit_share=least * speed if least is not None else None,
            checkpoint_share=self._checkpoint_share() if checkpoint else None,
        )

    def _checkpoint_share(self) -> float:
        """The share of the time since the save before that checkpoints cost at most."""
        (begin, before), now = self._last_save, time.perf_counter()
        self._last_save = now, self._store.seconds
        # The writer's thread and the trainer's add up to more than the time where a run does little else.
        return min(1.0, (self._store.seconds - before) / (now - begin))

    def _is_over(self) -> bool:
        """Whether to stop before the last step."""
        if self.config.patience and self.progress.evaluations_since_best >= self.config.patience:
            self.reason = "early stop"
            return True
        return self._interruption.requested

    def _diverged(self, slices: Sequence[AnySlice], loss: float, norm: float) -> TrainingError:
        step = self.progress.step + 1
        self._end_writing()
        if not all(np.isfinite(weight).all() for weight in self.weights.values()):
            # The last update broke the weights: a checkpoint made since then is not a good one.
            self._store.forget_after(step - 2)
        place = self._parts.model.locate_fault(slices)
        began = f"it began in {place}" if place else "where it began could not be found again"
        steps = self._store.steps()
        last = f"the last good checkpoint is {self._store.path(steps[-1])}" if steps else "no checkpoint yet"
        how = (
            f"`weft export -m {self.folder.path} --hf FOLDER`, then --model FOLDER" if steps else "begin anew"
        )
        what = f"a loss of {loss}" if not math.isfinite(loss) else f"gradients of size {norm}"
        return TrainingError(
            f"step {step}: expected a finite loss, got {what}; {began}; {last}. To go on: {how}, with a "
            "lower learning_rate or with clip_norm."
        )

    def _restore(self, content: CheckpointContent) -> None:
        if content.state["data"] != self._parts.data_key:
            raise ConfigError(
                "Expected the data that the run began with, got other content; restore it, or start a new "
                "run in another folder."
            )
        _copy(content.arrays[WEIGHTS_FILE], self.weights, "weights")
        _copy(content.arrays[_OPTIMIZER_FILE], self._parts.optimizer.state, "optimizer state")
        self.progress = Progress.of(content.state["progress"])
        self._saved_step = self.progress.step

    def _load_best(self, checkpoint: Path) -> None:
        try:
            content = read_checkpoint(checkpoint)
        except TrainingError as error:
            self._warn(f"{error} The result is of the last step.")
            return
        _copy(content.arrays[WEIGHTS_FILE], self.weights, "weights")

    def _save_if_whole(self) -> None:
        if self._whole and self.progress.step and self._saved_step != self.progress.step:
            self.save()
        self._store.wait()

    def _end_writing(self) -> None:
        """Lets a checkpoint that is being written appear, after an error that matters more."""
        try:
            self._store.wait()
        except TrainingError as error:
            self._warn(str(error))

    def _warn(self, message: str) -> None:
        for callback in self.callbacks:
            callback.on_warning(message)


def hash_weights(weights: Mapping[str, Array]) -> str:
    """SHA-256 over names and bytes of all weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).data)
    return digest.hexdigest()


def _is_due(step: int, every: int, is_last: bool) -> bool:
    return every > 0 and (step % every == 0 or is_last)


def _copy(source: Mapping[str, Array], target: Mapping[str, Any], what: str) -> None:
    if source.keys() != target.keys() or any(source[name].shape != target[name].shape for name in source):
        different = sorted(source.keys() ^ target.keys()) or ["shapes"]
        raise TrainingError(
            f"Expected a checkpoint with this model's {what}, got another's ({', '.join(different[:4])}); "
            "resume with the settings of the run."
        )
    for name, array in source.items():
        np.copyto(target[name], array)
