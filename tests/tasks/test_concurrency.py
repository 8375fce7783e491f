"""Models used from many threads at once, closed while they run, forked, and left idle."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import answers as bits
from support.idleness import becomes_idle
from support.tiny_folders import VOCABULARY

import weft
from weft.errors import ThreadError

REQUESTS = bits.random_requests(24, VOCABULARY, longest=120, max_tokens=12)


def test_many_threads_and_two_models(tiny: weft.Model, tiny_folder: Path) -> None:
    expected = bits.answers(tiny, REQUESTS, batch=1)
    got: dict[int, list[bits.Answer]] = {}
    with weft.load(tiny_folder, threads=8) as second:
        barrier = threading.Barrier(8)

        def work(number: int) -> None:
            barrier.wait()
            got[number] = bits.answers((tiny, second)[number % 2], REQUESTS, batch=1 + 3 * number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
    assert [got.get(number) == expected for number in range(8)] == [True] * 8


def test_closing_while_requests_run(tiny_folder: Path) -> None:
    model = weft.load(tiny_folder, threads=2)
    begun, refused = threading.Barrier(4), []

    def work() -> None:
        begun.wait()
        with pytest.raises(ThreadError, match=r"Expected .* open"):
            while True:
                model.generate([[1, 2, 3]] * 4, max_tokens=200, ignore_eos=True)
        refused.append(True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    time.sleep(0.05)
    model.close()
    for thread in threads:
        thread.join(300)
    assert refused == [True] * 3
    model.close()


def test_a_model_answers_while_another_trains(tiny: weft.Model, tiny_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text("The weft crosses the warp. " * 60)

    def train(out: str) -> str:
        settings = {"steps": 30, "batch_size": 4, "max_seq_length": 32, "eval_every": 0, "seed": 3}
        return weft.train(
            model=str(tiny_folder), data=str(data), out=str(tmp_path / out), **settings
        ).weights_sha256

    expected, trained_alone = bits.answers(tiny, REQUESTS, batch=8), train("alone")
    trained: list[str] = []
    training = threading.Thread(target=lambda: trained.append(train("beside")))
    training.start()
    rounds = 0
    while training.is_alive() or not rounds:
        assert bits.answers(tiny, REQUESTS, batch=8) == expected
        rounds += 1
    training.join()
    assert trained == [trained_alone]


@pytest.fixture
def two_cores() -> Iterator[None]:
    """Threads that start now have two cores at most between them."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system cannot keep threads to some cores")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:2])
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("two_cores")
def test_many_threads_on_two_cores_do_not_collapse(smollm2: weft.Model) -> None:
    """CPU time is compared, which other processes do not prolong; threads that spin burn it."""

    def answer(threads: int) -> tuple[float, list[tuple[int, ...]]]:
        with weft.load(smollm2.path, threads=threads) as model:
            model.generate([[1, 2, 3]], max_tokens=2)
            before = time.process_time()
            out = model.generate([[1, 2, 3]] * 4, max_tokens=24, temperature=0.0, ignore_eos=True)
            return time.process_time() - before, [completion.token_ids for completion in out]

    (alone_s, expected), (many_s, got) = answer(1), answer(8)
    assert got == expected
    assert many_s < 4 * alone_s  # 1.0 to 1.1 times was measured


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_is_refused_and_the_parent_unharmed(tiny: weft.Model) -> None:
    expected = tiny.generate([[1, 2, 3]], max_tokens=5, temperature=0.0)[0].token_ids
    child = os.fork()
    if child == 0:
        try:
            tiny.generate([[1, 2, 3]], max_tokens=5)
        except ThreadError:
            os._exit(0)
        finally:
            os._exit(3)
    assert os.waitpid(child, 0)[1] == 0
    assert tiny.generate([[1, 2, 3]], max_tokens=5, temperature=0.0)[0].token_ids == expected


def test_an_idle_model_uses_no_cpu(tiny: weft.Model) -> None:
    tiny.generate([[1, 2, 3]], max_tokens=5)
    assert becomes_idle()
