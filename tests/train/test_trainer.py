from __future__ import annotations

import json
import math
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from support.tiny_run import tiny_trainer
from support.tiny_trainable import TinyTrainable, arrays_equal

from weft.errors import ConfigError, TrainingError
from weft.train.log import read_log
from weft.train.report import Callback
from weft.train.trainer import hash_weights


class Recorder(Callback):
    def __init__(self):
        self.steps, self.warnings, self.result = [], [], None

    def on_step(self, report):
        self.steps.append(report)

    def on_warning(self, message):
        self.warnings.append(message)

    def on_end(self, result):
        self.result = result


def test_a_run_learns_and_explains_itself(tmp_path):
    recorder = Recorder()
    with tiny_trainer(tmp_path / "run", [recorder], steps=60, eval_every=20) as trainer:
        result = trainer.run()
    assert (result.steps, result.reason) == (60, "done")
    losses = [report.loss for report in recorder.steps]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    log = list(read_log(tmp_path / "run" / "log.jsonl"))
    assert [line["step"] for line in log] == list(range(1, 61))
    assert {"loss", "learning_rate", "tokens_per_second", "gradient_norm"} <= log[0].keys()
    validations = [line for line in log if "valid_loss" in line]
    assert [line["step"] for line in validations] == [20, 40, 60]
    assert validations[-1]["valid_perplexity"] == pytest.approx(
        math.exp(validations[-1]["valid_loss"]), rel=1e-4
    )
    assert validations[-1]["valid_bits_per_byte"] > 0
    for name in ("README.md", "config.yaml", "final", "checkpoints"):
        assert (tmp_path / "run" / name).exists()
    assert result.best_loss == min(report.validation.loss for report in recorder.steps if report.validation)
    assert result.weights_sha256 == hash_weights(trainer.weights)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    with tiny_trainer(tmp_path_factory.mktemp("whole") / "run") as trainer:
        return trainer.run().weights_sha256


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_stop_and_resume_at_any_step_gives_the_same_bits(tmp_path, whole_run, stop):
    with tiny_trainer(tmp_path / "run") as trainer:
        for step in trainer:
            if step.step == stop:
                break
    recorder = Recorder()
    with tiny_trainer(tmp_path / "run", [recorder]) as trainer:
        assert trainer.progress.step == stop
        assert trainer.run().weights_sha256 == whole_run
    assert recorder.steps[0].step == stop + 1
    assert [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")] == list(range(1, 13))


def test_slices_and_accumulation_are_one_batch(tmp_path, whole_run):
    with tiny_trainer(tmp_path / "run", batch_size=2, grad_accumulation_steps=2) as trainer:
        assert trainer.run().weights_sha256 == whole_run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(tmp_path, whole_run, number):
    class Killer(Callback):
        def on_step(self, report):
            if report.step == 5:
                os.kill(os.getpid(), number)

    with tiny_trainer(tmp_path / "run", [Killer()]) as trainer:
        result = trainer.run()
        assert (result.steps, result.reason, result.final) == (5, "interrupted", None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with tiny_trainer(tmp_path / "run") as trainer:
        assert trainer.progress.step == 5
        assert trainer.run().weights_sha256 == whole_run


def test_an_error_of_a_callback_keeps_what_is_done(tmp_path, whole_run):
    class Faulty(Callback):
        def on_step(self, report):
            if report.step == 4:
                raise LookupError("mine")

    with tiny_trainer(tmp_path / "run", [Faulty()]) as trainer, pytest.raises(LookupError):
        trainer.run()
    with tiny_trainer(tmp_path / "run") as trainer:
        assert trainer.progress.step == 4
        assert trainer.run().weights_sha256 == whole_run


def test_a_diverging_loss_stops_with_the_last_good_checkpoint(tmp_path):
    model = TinyTrainable()

    class Poison(Callback):
        def on_step(self, report):
            if report.step == 7:
                model.weights["head"][3, 2] = np.nan

    with (
        tiny_trainer(tmp_path / "run", [Poison()], model=model) as trainer,
        pytest.raises(TrainingError, match=r"step 8: .*loss of nan; it began in head; .*step-6"),
    ):
        trainer.run()
    with tiny_trainer(tmp_path / "run") as trainer:
        assert trainer.progress.step == 6 and np.isfinite(trainer.weights["head"]).all()


def test_weights_that_an_update_broke_are_no_good_checkpoint(tmp_path):
    model = TinyTrainable()
    with tiny_trainer(tmp_path / "run", model=model) as trainer:
        update = trainer._parts.optimizer.step

        def broken(norm, learning_rate, step):
            update(norm, learning_rate, step)
            if step == 9:
                model.weights["bias"][0, 0] = np.inf

        trainer._parts.optimizer.step = broken
        with pytest.raises(TrainingError, match=r"step 10: .*began in bias; .*step-6"):
            trainer.run()
    with tiny_trainer(tmp_path / "run") as trainer:
        assert trainer.progress.step == 6


def test_exploding_gradients_change_no_weight(tmp_path):
    model = TinyTrainable()
    before = {}

    def run(slices, run=model.run):
        results = run(slices)
        if trainer.progress.step == 4:
            before.update({name: weight.copy() for name, weight in model.weights.items()})
            model.gradients["head"][0, 0] = np.inf
        return results

    model.run = run
    with tiny_trainer(tmp_path / "run", model=model) as trainer:
        with pytest.raises(TrainingError, match=r"step 5: .*gradients of size inf"):
            trainer.run()
        assert arrays_equal(before, model.weights)


def test_early_stopping_goes_back_to_the_best(tmp_path):
    recorder = Recorder()
    settings = {"steps": 400, "eval_every": 2, "patience": 2, "learning_rate": 5.0, "keep_checkpoints": 1}
    with tiny_trainer(tmp_path / "run", [recorder], **settings) as trainer:
        result = trainer.run()
        assert result.reason == "early stop" and result.steps == result.best_step + 4
        assert trainer.evaluate().loss == result.best_loss
    assert (tmp_path / "run" / "checkpoints" / f"step-{result.best_step}").is_dir()


def test_a_best_checkpoint_that_is_gone_does_not_hold_up_the_end(tmp_path):
    class Remover(Callback):
        def on_step(self, report):
            if report.validation is not None and not report.is_best:
                trainer._store.wait()
                for path in (tmp_path / "run" / "checkpoints").iterdir():
                    (path / "state.json").write_text("{}")

    recorder = Recorder()
    settings = {"steps": 400, "eval_every": 2, "patience": 1, "learning_rate": 5.0, "keep_checkpoints": 1}
    with tiny_trainer(tmp_path / "run", [Remover(), recorder], **settings) as trainer:
        result = trainer.run()
    assert result.reason == "early stop" and result.final is not None
    assert "The result is of the last step" in recorder.warnings[-1]


def test_an_error_in_the_loop_of_ones_own_leaves_nothing_open(tmp_path):
    """Whoever keeps the error keeps the loop's frame, as an interactive session does."""
    with pytest.raises(LookupError) as kept, tiny_trainer(tmp_path / "run") as trainer:
        for step in trainer:
            if step.step == 5:
                raise LookupError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not any(thread.name == "weft-data" for thread in threading.enumerate())
    assert kept.tb is not None and (tmp_path / "run" / "checkpoints" / "step-5").is_dir()
    with tiny_trainer(tmp_path / "run") as trainer:
        assert trainer.progress.step == 5


def test_a_loop_that_is_left_ends_at_once(tmp_path, whole_run):
    with tiny_trainer(tmp_path / "run") as trainer:
        for stop in (4, 7):
            for step in trainer:
                if step.step == stop:
                    break
            assert (tmp_path / "run" / "checkpoints" / f"step-{stop}").is_dir()
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert trainer.run().weights_sha256 == whole_run


def test_a_trainer_that_was_interrupted_can_go_on(tmp_path, whole_run):
    class Killer(Callback):
        def on_step(self, report):
            if report.step == 5:
                os.kill(os.getpid(), signal.SIGINT)

    with tiny_trainer(tmp_path / "run", [Killer()]) as trainer:
        assert trainer.run().reason == "interrupted"
        assert trainer.run().weights_sha256 == whole_run


def test_samples_come_when_they_are_due(tmp_path):
    recorder = Recorder()
    settings = {"sample_every": 5, "sample_prompt": "Once"}
    with tiny_trainer(tmp_path / "run", [recorder], sample=lambda p: p + "...", **settings) as trainer:
        trainer.run()
    assert {r.step: r.sample for r in recorder.steps if r.sample} == dict.fromkeys((5, 10, 12), "Once...")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[4]["sample"] == "Once..."


def test_a_folder_in_use_is_refused(tmp_path):
    with (
        tiny_trainer(tmp_path / "run"),
        pytest.raises(TrainingError, match=f"in use .process {os.getpid()}.*another folder"),
    ):
        tiny_trainer(tmp_path / "run")


def test_other_data_is_refused_on_resume(tmp_path):
    with tiny_trainer(tmp_path / "run") as trainer:
        trainer.run()
    (tmp_path / "other.txt").write_text("other text " * 50)
    with pytest.raises(ConfigError, match="the data that the run began with"):
        tiny_trainer(tmp_path / "run", data=tmp_path / "other.txt")


def test_another_model_is_refused_on_resume(tmp_path):
    with tiny_trainer(tmp_path / "run") as trainer:
        trainer.run()
    with pytest.raises(TrainingError, match="this model's weights"):
        tiny_trainer(tmp_path / "run", model=TinyTrainable(features=9))


def test_what_checkpoints_cost_and_the_share_of_the_limit_are_told(tmp_path):
    with tiny_trainer(tmp_path / "run", steps=7, save_every=3) as trainer:
        reports = list(trainer)
    shares = {report.step: report.checkpoint_share for report in reports if report.checkpoint}
    assert list(shares) == [3, 6, 7]
    assert all(0 < share <= 1 for share in shares.values())
    assert all(report.limit_share is None for report in reports)
    lines = list(read_log(tmp_path / "run" / "log.jsonl"))
    assert [line["step"] for line in lines if "checkpoint_share" in line] == [3, 6, 7]
    with tiny_trainer(tmp_path / "measured", steps=2) as trainer:
        trainer._parts = replace(trainer._parts, least_seconds=lambda: 1e-7)
        trainer.measure_limits()
        for report in trainer:
            assert report.limit_share == 1e-7 * report.tokens_per_second
