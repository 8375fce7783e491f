from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from support import tiny_models
from support.byte_tokenizer import byte_tokenizer
from support.reference_trainable import reference_machinery
from support.tiny_trainable import arrays_equal

from weft.errors import ConfigError, WeftError
from weft.io.hf_writer import TextFiles, write_folder
from weft.io.open_checkpoint import open_checkpoint
from weft.models.registry import read_config
from weft.train.config import TrainConfig
from weft.train.data.files import find_files
from weft.train.master_weights import load_master_weights, split_parts
from weft.train.origin import open_origin
from weft.train.prepare import default_folder, prepare, resume

SIZES = """
preset: gpt2-tiny
n_layer: 1
n_embd: 16
n_head: 2
n_positions: 64
"""


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "sizes.yaml").write_text(SIZES)
    (tmp_path / "text.txt").write_text("A loom weaves threads into cloth, over and under. " * 60)
    return tmp_path


def settings(texts, **changes):
    defaults = {
        "model": str(texts / "sizes.yaml"),
        "data": str(texts / "text.txt"),
        "out": str(texts / "run"),
    }
    defaults |= {"batch_size": 4, "max_seq_length": 16, "vocabulary_size": 300, "steps": 6, "eval_every": 3}
    return TrainConfig(**(defaults | {"learning_rate": 0.02, "dtype": "float32", "save_every": 2} | changes))


def test_a_model_from_scratch_becomes_one_that_transformers_loads(texts):
    transformers = pytest.importorskip("transformers")
    with prepare(settings(texts, steps=12), reference_machinery) as trainer:
        losses = [step.loss for step in trainer]
        result = trainer.finish()
        expected = trainer.evaluate().loss
    assert losses[-1] < losses[0] - 0.5
    config = (texts / "run" / "config.yaml").read_text()
    assert "steps: 12" in config and "warmup_steps: 1" in config
    theirs = transformers.AutoModelForCausalLM.from_pretrained(result.final)
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.final)
    ours = open_checkpoint(result.final).tokenizer()
    text = "A loom weaves"
    assert tokenizer(text).input_ids == ours.encode(text)
    assert tokenizer.eos_token_id == ours.special.eos_id
    import torch

    rows = trainer._parts.evaluate.args[1]  # of the partial: model, rows held out, …
    total, count = 0.0, 0
    for begin, size in zip(rows.begin, rows.size, strict=True):
        ids = torch.tensor(rows.data.tokens[begin : begin + size + 1].astype(np.int64))[None]
        logits = theirs(ids[:, :-1]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits.detach(), ids[0, 1:], reduction="sum"))
        count += int(size)
    assert total / count == pytest.approx(expected, rel=1e-4)


def test_a_resumed_run_ends_in_the_same_bits(texts):
    with prepare(settings(texts, out=str(texts / "whole")), reference_machinery) as trainer:
        expected = trainer.run().weights_sha256
    with prepare(settings(texts), reference_machinery) as trainer:
        for step in trainer:
            if step.step == 3:
                break
    with resume(texts / "run", {"threads": 1}, reference_machinery) as trainer:
        assert trainer.progress.step == 3
        assert trainer.run().weights_sha256 == expected
    with pytest.raises(ConfigError, match=r"seed \(0, now 1\)"):
        resume(texts / "run", {"seed": 1}, reference_machinery)
    with pytest.raises(ConfigError, match="holds a run"):
        prepare(settings(texts), reference_machinery)


def test_epochs_are_compared_by_their_steps(texts):
    by_epochs = {"steps": None, "epochs": 0.5}
    with prepare(settings(texts, **by_epochs), reference_machinery) as trainer:
        steps = trainer.run().steps
    with resume(texts / "run", {"epochs": 0.5}, reference_machinery) as trainer:
        assert trainer.total_steps == steps == trainer.progress.step
    with pytest.raises(ConfigError, match=f"Expected the {steps} steps that the run began with, got epochs"):
        resume(texts / "run", {"epochs": 2.0}, reference_machinery)
    with resume(texts / "run", {}, reference_machinery) as trainer:  # the folder is free again
        assert trainer.total_steps == steps


def test_more_steps_of_a_constant_rate_are_remembered(texts):
    with prepare(settings(texts, schedule="constant"), reference_machinery) as trainer:
        assert trainer.run().steps == 6
    with resume(texts / "run", {"steps": 9, "threads": 2}, reference_machinery) as trainer:
        next(iter(trainer))
    with resume(texts / "run", {}, reference_machinery) as trainer:
        assert trainer.run().steps == 9 and trainer.config.threads is None


def test_what_a_try_that_failed_left_is_not_taken(texts, monkeypatch):
    for text, vocabulary, length in (("first try " * 300, 300, 65), ("second " * 300, 280, 16)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        config = settings(texts, data="-", vocabulary_size=vocabulary, max_seq_length=length, steps=1)
        with contextlib.suppress(ConfigError), prepare(config, reference_machinery) as trainer:
            trainer.run()
    assert (texts / "run" / "stdin.txt").read_text().startswith("second")
    assert open_checkpoint(texts / "run").tokenizer().vocab_size <= 280
    with resume(texts / "run", {}, reference_machinery) as trainer:
        assert trainer.progress.step == 1


def test_checkpoints_without_their_settings_are_not_written_over(texts):
    with prepare(settings(texts, steps=2), reference_machinery) as trainer:
        trainer.run()
    (texts / "run" / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"checkpoints of a run whose config\.yaml is gone"):
        prepare(settings(texts), reference_machinery)


def test_a_run_within_its_data_goes_on(texts):
    within = settings(texts, data=str(texts), out=str(texts / "runs" / "a"), steps=2)
    with prepare(within, reference_machinery) as trainer:
        trainer.run()
    with resume(texts / "runs" / "a", {}, reference_machinery) as trainer:
        assert trainer.progress.step == 2


@pytest.mark.parametrize(
    ("model", "folder"),
    [("org/Model-2.5-B", "runs/Model-2.5-B"), ("a/b.gguf", "runs/b"), ("my.yaml", "runs/my")],
)
def test_a_run_without_a_folder_has_the_name_of_its_model(model, folder):
    assert default_folder(TrainConfig(model=model)) == folder


LSTM = {"model_type": "lstm", "embedding_size": 8, "hidden_size": 12, "num_hidden_layers": 2}
PERCEPTRON = {"model_type": "perceptron", "embedding_size": 8, "hidden_size": 12, "window": 3}


@pytest.mark.parametrize("sizes", [LSTM, PERCEPTRON], ids=lambda sizes: sizes["model_type"])
def test_models_without_attention_learn_and_survive_their_files(texts, sizes):
    (texts / "sizes.json").write_text(json.dumps(sizes))
    config = settings(texts, model=str(texts / "sizes.json"), steps=30, eval_every=0)
    with prepare(config, reference_machinery) as trainer:
        losses = [step.loss for step in trainer]
        result = trainer.finish()
    assert losses[-1] < losses[0] - 0.5
    checkpoint = open_checkpoint(result.final)
    weights = load_master_weights(checkpoint, read_config(checkpoint.config))
    assert arrays_equal(weights, trainer.weights)


def hugging_face_folder(tmp_path, name):
    model = tiny_models.make(name, vocab_size=258)
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    byte_tokenizer().save(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return folder


@pytest.mark.parametrize("name", ["llama", "llama biases", "llama head_dim", "qwen2", "qwen3", "gpt2"])
def test_master_weights_survive_loading_and_export(tmp_path, name):
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = hugging_face_folder(tmp_path, name)
    checkpoint = open_checkpoint(folder)
    config = read_config(checkpoint.config)
    weights = load_master_weights(checkpoint, config)
    files = TextFiles(checkpoint.config, checkpoint.tokenizer())
    write_folder(tmp_path / "out", files, split_parts(config, weights), "float32")
    before = safetensors.load_file(folder / "model.safetensors")
    after = safetensors.load_file(tmp_path / "out" / "model.safetensors")
    prefix = "transformer." if name == "gpt2" and "wte.weight" in before else ""
    assert {prefix + key for key in before} == set(after)
    for key, array in before.items():
        assert np.array_equal(after[prefix + key], array), key


def test_a_model_is_fine_tuned(tmp_path):
    folder = hugging_face_folder(tmp_path, "llama")
    lines = [json.dumps({"prompt": f"{i}?", "completion": f" {i}{i}"}) for i in range(30)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    config = TrainConfig(
        model=str(folder),
        data=(str(tmp_path / "pairs.jsonl"),),
        out=str(tmp_path / "run"),
        steps=10,
        batch_size=4,
        max_seq_length=32,
        mask_prompt=True,
        learning_rate=0.01,
    )
    with prepare(config, reference_machinery) as trainer:
        losses = [step.loss for step in trainer]
        result = trainer.finish()
    assert losses[-1] < losses[0] - 1
    assert open_checkpoint(tmp_path / "run").path == result.final
    assert json.loads((result.final / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_model_from_files_has_its_own_tokenizer(tmp_path):
    (tmp_path / "text.txt").write_text("a text")
    config = TrainConfig(
        model=str(hugging_face_folder(tmp_path, "llama")), data=str(tmp_path / "text.txt"), tokenizer="gpt2"
    )
    with pytest.raises(ConfigError, match="has its own, got 'gpt2'"):
        open_origin(config, find_files(config.data), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": 65}, "max_seq_length of at most 64"),
        ({"model": ""}, "a model to train"),
        ({"model": "no-such-model"}, "no model 'no-such-model'"),
        ({"data": ()}, "data to train on"),
        ({"lora": True}, "a trained model under an adapter"),
        ({"vocabulary_size": 10}, "at least 257"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_the_folder(texts, changes, message):
    with pytest.raises(WeftError, match=message):
        prepare(settings(texts, **changes), reference_machinery)
    with prepare(settings(texts, steps=1), reference_machinery) as trainer:
        trainer.run()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("preset: gpt2-tiny\nn_haed: 2", "settings among .*n_head.*, got n_haed"),
        ("preset: gpt2-tiny\nhidden_size: 768", "got hidden_size"),
        ("preset: gpt9", "a preset among gpt2-tiny, .*, got 'gpt9'"),
        ("preset: [1]", "a preset among"),
    ],
)
def test_sizes_that_are_misspelled_are_refused(texts, sizes, message):
    (texts / "sizes.yaml").write_text(sizes)
    with pytest.raises(ConfigError, match=message):
        prepare(settings(texts), reference_machinery)


def test_a_folder_that_holds_a_model_is_refused(texts):
    (texts / "run").mkdir()
    (texts / "run" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="one that holds a model"):
        prepare(settings(texts), reference_machinery)


def test_a_disk_without_room_is_refused(texts, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(WeftError, match=r"for 3 checkpoints, got 1000 B of room"):
        prepare(settings(texts), reference_machinery)


def test_a_tokenizer_may_be_taken_from_a_file(texts):
    byte_tokenizer().save(texts / "tokenizer.json")
    config = settings(texts, tokenizer=str(texts / "tokenizer.json"))
    origin = open_origin(config, find_files(config.data), texts)
    assert origin.tokenizer.encode("A") == [65]
