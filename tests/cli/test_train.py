from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.run_weft import command

SIZES = "preset: gpt2-tiny\nn_layer: 1\nn_embd: 32\nn_head: 2\nn_positions: 64\n"
TEXT = "A loom weaves threads into cloth, over and under, row after row. " * 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    (folder / "sizes.yaml").write_text(SIZES)
    (folder / "text.txt").write_text(TEXT)
    pairs = [{"prompt": f"{number}?", "completion": f" {number}{number}"} for number in range(40)]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in pairs))
    settings = "batch-size: 4\nmax-seq-length: 32\nvocabulary_size: 300\nlearning_rate: 0.01\nsave_every: 2\n"
    (folder / "settings.yaml").write_text(settings)
    return folder


def arguments(place, out, *more):
    data = ("--data", place / "text.txt", "--out", out, "-c", place / "settings.yaml")
    return ("train", "--model", place / "sizes.yaml", *data, "--eval-every", "4", *more)


@pytest.fixture(scope="module")
def run(weft, place):
    """A run that is through."""
    done = weft(*arguments(place, place / "run", "--steps", "8", "--sample-every", "8", "--tensorboard"))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == place / "run" / "final"
    assert "held-out loss" in done.stderr and "sample:" in done.stderr and "weights to train" in done.stderr
    return place / "run"


def checksum(run):
    return hashlib.sha256((run / "final" / "model.safetensors").read_bytes()).hexdigest()


def test_a_run_leaves_what_it_promises(run):
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 9)) and log[-1]["loss"] < log[0]["loss"]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-6", "step-8"}
    assert "learning_rate: 0.01" in (run / "config.yaml").read_text()
    assert list((run / "tensorboard").iterdir())


@pytest.mark.parametrize("teams", [1, 2])
def test_a_timeline_of_its_steps(weft, place, tmp_path, teams):
    path = tmp_path / "trace.json"
    flags = ("--threads", "2", "--teams", str(teams), "--slice-size", "2", "--trace", path)
    done = weft(*arguments(place, tmp_path / "traced", "--steps", "3", *flags))
    assert done.returncode == 0, done.stderr
    spans = [event for event in json.loads(path.read_text()) if event["ph"] == "X"]
    assert {span["args"]["run"] for span in spans} == set(range(1, 7))  # two slices a step
    assert {"cross_entropy_grad", "linear_weight_grad"} <= {span["name"] for span in spans}
    assert len({span["tid"] for span in spans}) == 2
    summary = json.loads(weft("trace", path, "--json", "--no-limits").stdout)
    assert summary["num_runs"] == 6 and sum(one["flops"] for one in summary["operations"]) > 0


def test_what_was_trained_is_a_model_like_any_other(weft, run, place):
    answer = weft("generate", "-m", run, "-p", "A loom", "-n", "5", "--seed", "1", "-q")
    assert answer.returncode == 0 and answer.stdout
    result = weft("eval", "-m", run, "--data", place / "text.txt", "--json", "--max-seq-length", "32")
    assert result.returncode == 0, result.stderr
    assert 0 < json.loads(result.stdout)["loss"] < 6
    assert "perplexity" in weft("eval", "-m", run, "--data", place / "text.txt").stdout


def test_exports(weft, run, place, tmp_path):
    flags = ("--gguf", tmp_path / "m.gguf", "--hf", tmp_path / "hf", "--pth", tmp_path / "m.pth")
    done = weft("export", "-m", run, *flags, "--dtype", "float32", "--gguf-type", "f32")
    assert done.returncode == 0, done.stderr
    losses = [
        json.loads(
            weft("eval", "-m", model, "--data", place / "text.txt", "--json", "--dtype", "float32").stdout
        )
        for model in (run, tmp_path / "m.gguf", tmp_path / "hf")
    ]
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-3)
    assert losses[0]["loss"] == pytest.approx(losses[2]["loss"], rel=1e-3)
    torch = pytest.importorskip("torch")
    state = torch.load(tmp_path / "m.pth", weights_only=True)
    assert state["transformer.wte.weight"].shape[1] == 32
    assert weft("export", "-m", run).returncode == 2


def test_an_export_takes_the_place_of_a_model_alone(weft, run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for place in (tmp_path / "mine", run):
        assert "new or empty folder" in weft.fails(2, "export", "-m", run, "--hf", place)
    assert (tmp_path / "mine" / "letter.txt").exists() and (run / "checkpoints").is_dir()
    for _ in range(2):
        weft.ok("export", "-m", run, "--hf", tmp_path / "model")


def test_plot(weft, run):
    pytest.importorskip("matplotlib")
    done = weft("plot", run)
    assert done.returncode == 0, done.stderr
    assert (run / "plot.png").read_bytes().startswith(b"\x89PNG")
    page = (run / "plot.html").read_text()
    assert page.count("<svg") == 3 and "http" not in page


def test_ctrl_c_saves_and_resume_ends_in_the_same_bits(weft, run, place):
    whole = arguments(place, place / "whole", "--steps", "200", "-t", "1", "-q")
    assert weft(*whole).returncode == 0
    stopped = place / "stopped"
    process = subprocess.Popen(
        command(*arguments(place, stopped, "--steps", "200", "-q")),
        env=weft.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not any(stopped.glob("checkpoints/step-*")):  # any: an early one may be gone before it is seen
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130 and not (stopped / "final").exists()
    assert "go on with `weft train --resume" in weft.fails(1, "generate", "-m", stopped, "-p", "A")
    export = weft("export", "-m", stopped, "--hf", place / "early")
    assert export.returncode == 0, export.stderr
    done = weft("train", "--resume", stopped, "-t", "2")
    assert done.returncode == 0 and "going on after step" in done.stderr
    assert checksum(stopped) == checksum(place / "whole")


def kill_often(weft, arguments, log, kills, seed):
    """Runs the training again and again, and kills it at random moments after a step, `kills` times."""
    draw = random.Random(seed)
    for _ in range(kills):
        seen = log.stat().st_size if log.exists() else 0
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command(*arguments), env=weft.environment, **pipes)
        while process.poll() is None and (not log.exists() or log.stat().st_size == seen):
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_it_ends_in_the_same_bits(weft, place, tmp_path, kills):
    """A checkpoint is written after each step, so most kills meet one."""
    flags = ("--steps", str(60 + 30 * kills), "--save-every", "1", "--eval-every", "0", "-q")
    assert weft(*arguments(place, tmp_path / "whole", *flags, "-t", "1")).returncode == 0
    killed = arguments(place, tmp_path / "killed", *flags, "--resume", "auto")
    kill_often(weft, killed, tmp_path / "killed" / "log.jsonl", kills, seed=kills)
    done = weft(*killed)
    assert done.returncode == 0, done.stderr
    assert checksum(tmp_path / "killed") == checksum(tmp_path / "whole")
    log = [json.loads(line)["step"] for line in (tmp_path / "killed" / "log.jsonl").open()]
    assert log == list(range(1, 61 + 30 * kills))


def test_auto_begins_a_run_and_goes_on_with_it(weft, place):
    first = weft(*arguments(place, place / "auto", "--steps", "4", "--resume", "auto"))
    again = weft(*arguments(place, place / "auto", "--steps", "4", "--resume", "auto"))
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "going on after step 4" in again.stderr


@pytest.mark.parametrize("quant", ["bf16", "q4"])
def test_an_adapter_is_trained_used_and_fused(weft, place, tiny, tmp_path, quant):
    run = tmp_path / "adapter"
    flags = ("--lora", "--rank", "4", "--quant", quant, "--steps", "20", "--mask-prompt")
    data = ("--data", place / "pairs.jsonl", "--out", run, "-c", place / "settings.yaml")
    done = weft(
        "train", "--model", tiny, *data, *flags, "--lora-layers", "q_proj", "--lora-layers", "up_proj"
    )
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    settings = json.loads((run / "final" / "adapter_config.json").read_text())
    assert settings["target_modules"] == ["q_proj", "up_proj"] and settings["r"] == 4
    adapted = weft("generate", "-m", tiny, "--adapter", run, "-p", "1?", "-n", "6", "--temp", "0", "-q")
    assert adapted.returncode == 0, adapted.stderr
    run_itself = weft.ok("generate", "-m", run, "-p", "1?", "-n", "6", "--temp", "0", "-q")
    assert run_itself == adapted.stdout
    two = ("--adapter", run, "-p", "1?")
    assert "one adapter for all answers" in weft.fails(2, "generate", "-m", run / "final", *two)
    fused = weft("fuse", "-m", tiny, "--adapter", run, "--out", tmp_path / "fused")
    assert fused.returncode == 0, fused.stderr
    plain = weft("generate", "-m", tmp_path / "fused", "-p", "1?", "-n", "6", "--temp", "0", "-q")
    assert plain.stdout == adapted.stdout
    losses = [
        json.loads(weft("eval", "-m", tiny, *more, "--data", place / "pairs.jsonl", "--json").stdout)["loss"]
        for more in ((), ("--adapter", str(run)))
    ]
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--steps", "0"), 2, "at least 1"),
        (("--data", "no-such.txt"), 1, "no such file"),
        (("--max-seq-length", "100"), 2, "max_seq_length of at most 64"),
        (("--schedule", "odd"), 2, "odd"),
        (("--learning-rate", "1e30", "--clip-norm", "0", "--optimizer", "sgd"), 1, "expected a finite loss"),
    ],
)
def test_errors_are_one_line(weft, place, tmp_path, more, code, message):
    done = weft(*arguments(place, tmp_path / "run", "--steps", "6", "-q", *more))
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_changed_settings_are_named_on_resume(weft, run):
    done = weft("train", "--resume", run, "--batch-size", "2", "--seed", "9")
    assert done.returncode == 2 and "batch_size (4, now 2), seed (0, now 9)" in done.stderr


def test_a_model_is_needed(weft):
    done = weft("train", "--data", "stdlib")
    assert done.returncode == 2 and "--model" in done.stderr


def test_the_python_interface_drives_a_loop(place):
    import weft

    settings = {"batch_size": 4, "max_seq_length": 32, "vocabulary_size": 300, "steps": 3, "eval_every": 0}
    trainer = weft.trainer(
        model=str(place / "sizes.yaml"), data=str(place / "text.txt"), out=str(place / "loop"), **settings
    )
    with trainer:
        losses = [step.loss for step in trainer]
        result = trainer.finish()
    assert len(losses) == 3 and result.final.is_dir()
    again = weft.train(resume=str(place / "loop"))
    assert again.weights_sha256 == result.weights_sha256
