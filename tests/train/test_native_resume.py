"""Runs of each kind of model on native threads, stopped after every step, resumed with others: same bits."""

from __future__ import annotations

import itertools
import json

import pytest

pytest.importorskip("weft._native", reason="the native core is not built")

from weft.errors import ConfigError
from weft.train.config import TrainConfig
from weft.train.native_machinery import make_pool, native_machinery
from weft.train.prepare import prepare, resume

STEPS = 20
TEAMS = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (8, 1), (8, 4)]
ATTENTION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {
    "gpt2": {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64},
    "llama": {"preset": "llama-tiny", **ATTENTION, "num_key_value_heads": 1},
    "lstm": {"preset": "lstm-tiny", "embedding_size": 8, "hidden_size": 12, "num_hidden_layers": 2},
    "perceptron": {"preset": "perceptron", "embedding_size": 8, "hidden_size": 12, "window": 3},
}


def settings(tmp_path, name, out):
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES[name]))
    (tmp_path / "text.txt").write_text("A loom weaves threads into cloth, over and under. " * 60)
    return TrainConfig(
        model=str(tmp_path / "sizes.json"),
        data=(str(tmp_path / "text.txt"),),
        out=str(tmp_path / out),
        batch_size=4,
        slice_size=1,
        max_seq_length=16,
        vocabulary_size=300,
        steps=STEPS,
        eval_every=0,
        save_every=1000,
        learning_rate=0.02,
        threads=1,
    )


@pytest.mark.parametrize("name", list(SIZES))
def test_a_stop_after_every_step_changes_no_bit(tmp_path, name):
    with prepare(settings(tmp_path, name, "whole"), native_machinery) as trainer:
        whole = trainer.run().weights_sha256
    with prepare(settings(tmp_path, name, "parts"), native_machinery) as trainer:
        next(iter(trainer))
    for threads, teams in itertools.islice(itertools.cycle(TEAMS), STEPS - 2):
        with resume(tmp_path / "parts", {"threads": threads, "teams": teams}, native_machinery) as trainer:
            next(iter(trainer))
    with resume(tmp_path / "parts", {"threads": 2, "teams": 1}, native_machinery) as trainer:
        assert trainer.progress.step == STEPS - 1
        assert trainer.run().weights_sha256 == whole


def test_teams_without_a_slice_leave_their_threads_to_the_others():
    for slices, teams in ((1, 1), (2, 2), (3, 3), (8, 3)):
        with make_pool(3, 3, slices) as pool:
            assert (pool.num_threads, pool.num_teams) == (3, teams)
    assert TrainConfig(batch_size=8, slice_size=3, grad_accumulation_steps=2).slices_per_step == 6
    with pytest.raises(ConfigError, match="got 3 teams of 2 threads"):
        make_pool(2, 3, 1)
