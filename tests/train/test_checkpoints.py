from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.tiny_run import tiny_trainer

from weft.errors import TrainingError
from weft.train.checkpoint import files, snapshot
from weft.train.checkpoint.store import CheckpointStore
from weft.train.report import Callback

TESTS = Path(__file__).parents[1]


def arrays(step):
    return {
        "a.safetensors": {"w": np.full((300, 100), step, np.float32), "v": np.arange(7, dtype=np.float32)}
    }


def save(store, step, best=None):
    store.save(step, arrays(step), {"progress": step}, best)
    store.detach()
    store.wait()


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


def test_the_latest_few_and_the_best_are_kept(store):
    for step in range(1, 6):
        save(store, step, best=2)
    assert store.steps() == [2, 4, 5]
    step, content = store.newest(pytest.fail)
    assert step == 5 and content.state["progress"] == 5
    assert np.array_equal(content.arrays["a.safetensors"]["w"], np.full((300, 100), 5))


def test_the_best_stays_until_a_better_one_is_written(store, monkeypatch):
    save(store, 1, best=1)
    save(store, 2, best=1)
    store.save(3, arrays(3), {}, 1)
    monkeypatch.setattr("weft.train.checkpoint.store.write_checkpoint", lambda *_: pytest.fail("killed"))
    store.save(4, arrays(4), {}, 4)
    with pytest.raises(TrainingError):
        store.wait()
    assert store.steps() == [1, 2, 3]


@pytest.mark.parametrize("name", ["a.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_damaged_newest_one_is_noticed_and_the_one_before_used(store, name, damage):
    save(store, 1)
    save(store, 2)
    path = store.path(2) / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"flip": content, "cut": content[:-1], "empty": b""}[damage])
    warnings = []
    step, content = store.newest(warnings.append)
    assert step == 1 and "step-2" in warnings[0]
    assert content.arrays["a.safetensors"]["w"][0, 0] == 1


def test_arrays_may_change_once_they_are_detached(store, monkeypatch):
    """Chunks that the writer has not come to are copied; it writes what was, not what is."""
    monkeypatch.setattr(snapshot, "_CHUNK_BYTES", 1000)
    may_go_on, begun = threading.Event(), threading.Event()
    write_all = files._write_all

    def slow(file, data):
        write_all(file, data)
        if len(data) == 1000 and not begun.is_set():
            begun.set()
            may_go_on.wait(10)

    monkeypatch.setattr(files, "_write_all", slow)
    content = {"a.safetensors": {f"w{i}": np.full(1000, i, np.float32) for i in range(4)}}
    store.save(7, content, {})
    assert begun.wait(10)
    threading.Timer(0.2, may_go_on.set).start()
    store.detach()
    for array in content["a.safetensors"].values():
        array[...] = -1
    store.wait()
    _, found = store.newest(pytest.fail)
    for i in range(4):
        assert np.array_equal(found.arrays["a.safetensors"][f"w{i}"], np.full(1000, i))


def test_a_full_disk_leaves_nothing_half_written(store, monkeypatch):
    save(store, 1)
    write_all = files._write_all
    written = []

    def full(file, data):
        written.append(len(data))
        if sum(written) > 50000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, data)

    monkeypatch.setattr(files, "_write_all", full)
    store.save(2, arrays(2), {})
    time.sleep(0.05)
    with pytest.raises(TrainingError, match=r"No space left.*step-1"):
        store.detach()
        store.wait()
    assert store.steps() == [1] and sorted(os.listdir(store.folder)) == ["step-1"]


def test_leftovers_of_a_killed_run_are_removed(store):
    save(store, 1)
    for name in (".step-2.1234.part", ".other"):
        (store.folder / name).mkdir()
    store.clean()
    assert sorted(os.listdir(store.folder)) == [".other", "step-1"]


def test_all_damaged_is_said(tmp_path):
    with tiny_trainer(tmp_path / "run") as trainer:
        trainer.run()
    for path in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        path.write_text("{}")
    with pytest.raises(TrainingError, match="damaged ones alone"):
        tiny_trainer(tmp_path / "run")


def test_resuming_past_a_damaged_checkpoint_gives_the_same_bits(tmp_path):
    with tiny_trainer(tmp_path / "whole") as trainer:
        expected = trainer.run().weights_sha256
    with tiny_trainer(tmp_path / "run") as trainer:
        for step in trainer:
            if step.step == 9:
                break
    weights = tmp_path / "run" / "checkpoints" / "step-9" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    warnings = []

    class Listener(Callback):
        def on_warning(self, message):
            warnings.append(message)

    with tiny_trainer(tmp_path / "run", [Listener()]) as trainer:
        assert trainer.progress.step == 6 and "step-9" in warnings[0]
        assert trainer.run().weights_sha256 == expected


def script(folder, *arguments):
    command = [sys.executable, "-m", "support.tiny_run", str(folder), *arguments]
    return subprocess.Popen(
        command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )


def test_a_file_limit_stops_the_run_with_what_was_saved(tmp_path):
    """As a full disk does: the system refuses to write more in the midst of a checkpoint."""
    (tmp_path / "run").mkdir()
    process = script(tmp_path / "run", "--steps", "12", "--features", "64", "--file-limit", "100000")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1 and "File too large" in error and "there is none before it" in error
    assert os.listdir(tmp_path / "run" / "checkpoints") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_by_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(TrainingError, match="Permission denied"):
        tiny_trainer(tmp_path / "locked" / "run")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="expected a folder to write the run to"):
        tiny_trainer(tmp_path / "file" / "run", data=tmp_path / "file")


def kill_at_random_moments(tmp_path, kills, seed):
    """Kills runs at random moments, `kills` times in all; each must end in the weights of a whole one."""
    random = np.random.default_rng(seed)
    arguments = ("--steps", "40", "--delay", "0.002", "--features", "256")
    begin = time.monotonic()
    whole = script(tmp_path / "whole", *arguments)
    expected, error = whole.communicate(timeout=600)
    assert whole.returncode == 0, error
    whole_s = time.monotonic() - begin
    done = number = 0
    while done < kills:  # a run may be through before its moment comes
        folder, number = tmp_path / f"run-{number}", number + 1
        for _ in range(3):
            process = script(folder, *arguments)
            try:
                output, error = process.communicate(timeout=whole_s * float(random.uniform(0.3, 1.0)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                done += 1
                continue
            assert process.returncode == 0, error
        process = script(folder, *arguments)
        output, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
        assert output == expected


def test_killed_runs_end_in_the_same_weights(tmp_path):
    kill_at_random_moments(tmp_path, 1, 0)


@pytest.mark.soak
def test_fifty_killed_runs_end_in_the_same_weights(tmp_path):
    kill_at_random_moments(tmp_path, 50, 1)
