from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from weft.errors import ConfigError
from weft.train.config import TrainConfig, check_same_run, config_of
from weft.train.settings_file import check_adapter, joined_settings, read_settings, write_settings


def test_settings_survive_their_file(tmp_path):
    config = TrainConfig(
        model="m", data=("a", "b"), steps=3, learning_rate=1, lora=True, lora_layers="q_proj"
    )
    assert config.learning_rate == 1.0 and config.lora_layers == ("q_proj",)
    (tmp_path / "config.yaml").write_text(write_settings(config))
    assert config_of(read_settings(tmp_path / "config.yaml")) == config


def test_paths_and_numbers_of_numpy_are_taken_as_plain_values():
    config = TrainConfig(
        model=Path("m"),
        data=[Path("a"), "b"],
        out=Path("runs/x"),
        steps=np.int64(3),
        learning_rate=np.float32(0.5),
        eps=np.float64(1e-6),
    )
    assert (config.model, config.data, config.out) == ("m", ("a", "b"), "runs/x")
    assert [type(n) for n in (config.steps, config.learning_rate, config.eps)] == [int, float, float]
    assert TrainConfig(data=Path("a")).data == ("a",)
    for settings in ({"data": 3}, {"data": [3]}, {"steps": 2.0}, {"steps": True}, {"seed": "1"}, {"lora": 1}):
        with pytest.raises(ConfigError, match=f"Expected {next(iter(settings))} to be"):
            TrainConfig(**settings)


def test_a_file_may_write_names_as_flags(tmp_path):
    (tmp_path / "c.yaml").write_text("batch-size: 3\ndata: [x, y]\n")
    assert read_settings(tmp_path / "c.yaml") == {"batch_size": 3, "data": ["x", "y"]}
    (tmp_path / "empty.yaml").write_text("")
    assert read_settings(tmp_path / "empty.yaml") == {}


def test_a_file_may_write_flags_and_numbers_as_people_do(tmp_path):
    """YAML 1.1 takes 5e-5 for a text; editors on Windows write a mark and line ends of their own."""
    text = "\ufefflearning-rate: 5e-5\r\neps: 1E-8\r\nvocab-size: 300\r\nmax_seq_length: 32\r\n"
    (tmp_path / "c.yaml").write_bytes(text.encode())
    expected = {"learning_rate": 5e-5, "eps": 1e-8, "vocabulary_size": 300, "max_seq_length": 32}
    assert read_settings(tmp_path / "c.yaml") == expected


def test_steps_or_epochs_that_are_given_win_over_those_of_a_file(tmp_path):
    (tmp_path / "c.yaml").write_text("steps: 4\nbatch_size: 2\n")
    assert joined_settings(tmp_path / "c.yaml", {"epochs": 2.0}) == {"epochs": 2.0, "batch_size": 2}
    assert joined_settings(tmp_path / "c.yaml", {"seed": 1}) == {"steps": 4, "batch_size": 2, "seed": 1}
    with pytest.raises(ConfigError, match="got both"):
        config_of(joined_settings(None, {"epochs": 2.0, "steps": 1}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 3", "'batchsize'; did you mean batch_size"),
        ("batch_size: many", "batch_size to be int, got 'many'"),
        ("batch_size: 0", "at least 1"),
        ("- 1", "expected lines of `name: value`, got list"),
        ("a: [", "expected YAML"),
        ("schedule: up", "one of cosine, linear"),
        ("steps: 3\nepochs: 2", "steps or epochs, got both"),
        ("valid_share: 2", "at most 0.9"),
        ("mask_prompt: 1", "mask_prompt to be bool"),
        ("nesterov: true", "sgd with momentum"),
        ("learning_rate: .nan", "learning_rate"),
        ("learning_rate: .inf", "learning_rate of at least 0, got inf"),
        ("epochs: 1e400", "epochs of at least 1e-09, got inf"),
    ],
)
def test_errors_name_the_file_and_the_setting(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"c.yaml: .*{message}"):
        read_settings(tmp_path / "c.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no-such\.yaml: expected a readable file"):
        read_settings("no-such.yaml")


def test_a_resumed_run_may_change_what_changes_no_bit():
    old = TrainConfig(model="m", data=("d",), steps=10)
    assert check_same_run(old, {"threads": 3, "save_every": 7}).threads == 3
    assert check_same_run(old, {"batch_size": 8}) == old
    with pytest.raises(ConfigError, match=r"batch_size \(8, now 4\), seed \(0, now 1\)"):
        check_same_run(old, {"seed": 1, "batch_size": 4})


def test_only_a_constant_rate_allows_other_steps():
    old = TrainConfig(steps=10)
    with pytest.raises(ConfigError, match="steps"):
        check_same_run(old, {"steps": 20})
    constant = dataclasses.replace(old, schedule="constant")
    assert check_same_run(constant, {"steps": 20}).steps == 20


def test_every_setting_has_a_flag_of_its_own():
    flags = [flag for field in dataclasses.fields(TrainConfig) for flag in field.metadata["flags"]]
    assert len(flags) == len(set(flags)) and all(flag.startswith("-") for flag in flags)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant": "q4"}, "quant for an adapter alone, got a run without lora"),
        ({"lora_layers": "q_proj", "rank": 8}, "rank, lora_layers for an adapter"),
        (
            {"targets": "price", "mask_prompt": True, "lora": True},
            "lora, mask_prompt for text alone, got a run on vectors",
        ),
        ({"data": "a.npz", "z_loss": 0.1}, "z_loss for text"),
        ({"standardize": True}, "standardize for vectors"),
        ({"patience": 2, "eval_every": 0}, "patience for evaluations"),
    ],
)
def test_settings_of_no_use_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        config_of(settings)
    assert config_of({"lora": True, "quant": "q4", "rank": 8, "patience": 1}).rank == 8


def test_an_adapter_that_is_told_of_but_not_trained_is_refused():
    with pytest.raises(ConfigError, match="lora with rank, got a run that trains all weights"):
        check_adapter({"rank": 16}, {"rank": 16})
    check_adapter({"rank": 16}, {"rank": 16, "lora": True})
    check_adapter({"seed": 1}, {"rank": 16, "alpha": 32.0})  # as config.yaml of a run has them
