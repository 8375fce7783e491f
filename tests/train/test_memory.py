"""What a run needs of memory: told before it begins, refused where it is not there, less by recomputing."""

from __future__ import annotations

import pytest

pytest.importorskip("weft._native", reason="the native core is not built")

from weft.cli.train_progress import PlainProgress
from weft.config import format_bytes
from weft.errors import OutOfMemoryError
from weft.train.config import TrainConfig
from weft.train.native_machinery import native_machinery
from weft.train.prepare import prepare

SIZES = "preset: gpt2-tiny\nn_layer: 4\nn_embd: 32\nn_head: 2\nn_positions: 64\n"


def settings(place, **changes):
    (place / "sizes.yaml").write_text(SIZES)
    (place / "text.txt").write_text("A loom weaves threads into cloth, over and under. " * 60)
    files = {"model": str(place / "sizes.yaml"), "data": str(place / "text.txt"), "out": str(place / "run")}
    numbers = {"batch_size": 8, "max_seq_length": 32, "vocabulary_size": 300, "steps": 3, "eval_every": 0}
    return TrainConfig(**(files | numbers | {"threads": 1} | changes))


def test_recomputed_activations_take_less_memory_and_change_no_bit(tmp_path):
    found = {}
    for recomputes in (False, True):
        config = settings(tmp_path, out=str(tmp_path / str(recomputes)), grad_checkpoint=recomputes)
        with prepare(config, native_machinery) as trainer:
            found[recomputes] = trainer.memory_bytes, trainer.run().weights_sha256
    assert found[True][0] < 0.8 * found[False][0]
    assert found[True][1] == found[False][1]


def test_the_peak_is_told_before_the_run(tmp_path, capsys):
    with prepare(settings(tmp_path), native_machinery) as trainer:
        PlainProgress().introduce(trainer)
        assert f"memory {format_bytes(trainer.memory_bytes)}" in capsys.readouterr().err
        weights = sum(weight.nbytes for weight in trainer.weights.values())
        assert trainer.memory_bytes > 4 * weights  # with gradients and both moments


def test_a_run_that_cannot_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("weft.train.native_machinery.available_memory", lambda: 1000)
    with pytest.raises(OutOfMemoryError, match=r"more of memory for the optimizer, got 1000 B; .*--lora"):
        prepare(settings(tmp_path), native_machinery)
    monkeypatch.undo()
    with prepare(settings(tmp_path), native_machinery) as trainer:  # the folder is free again
        assert trainer.progress.step == 0
