"""Models and pools used from many threads at once, for checks of races: sanitizers, Python without its lock.

Threads start from a barrier and make long native calls at once, so that an interpreter's lock does not order
what it should not: one model from several threads, scores beside answers, two models, streams that are
dropped, pools that are resized and closed while they run. Answers are compared with those given alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import answers as bits

import weft
from weft.errors import ThreadError


def texts_of(requests: Sequence[bits.Request]) -> list[list[int]]:
    """Their prompts that can be scored."""
    return [request.prompt for request in requests if len(request.prompt) > 1]


def at_once(*works: Callable[[], None]) -> None:
    """Runs all of `works`, each on a thread of its own, from a barrier on; raises the first error."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def answer_many(
    model: weft.Model,
    requests: Sequence[bits.Request],
    expected: list[bits.Answer],
    scores: list[tuple[int, ...]],
) -> None:
    """Answers, scores and dropped streams on one model from five threads, while a sixth resizes its pool."""

    def check(first: int, batch: int) -> Callable[[], None]:
        def work() -> None:
            assert bits.answers(model, requests[first:], batch) == expected[first:]

        return work

    def score() -> None:
        assert bits.scores(model, texts_of(requests)) == scores

    def drop() -> None:
        for request in requests[:6]:
            stream = model.stream(request.prompt, max_tokens=None, ignore_eos=True)
            next(stream)
            if len(request.prompt) % 2:
                stream.close()

    def resize() -> None:
        for threads in (5, 2, 4, 3) * 2 + (model.pool.num_threads,):
            model.pool.resize(threads)
            score()

    at_once(check(0, 24), check(7, 3), check(12, 5), score, drop, resize)


def answer_on_two_models(folders: Sequence[Path], requests: Sequence[bits.Request]) -> None:
    """Two models at once, each on a pool of its own."""
    models = [weft.load(folder, threads=2) for folder in folders]
    alone = [bits.answers(model, requests) for model in models]

    def work(number: int) -> Callable[[], None]:
        def check() -> None:
            assert bits.answers(models[number], requests) == alone[number]

        return check

    at_once(work(0), work(1), work(0), work(1))
    at_once(*(model.close for model in models * 2))


def change_pools() -> None:
    """Pools used from three threads while they are resized and closed, and teams at once."""
    pool, total = weft.Pool(threads=3), 200_000

    def use() -> None:
        try:
            for _ in range(20):
                assert (
                    sum(pool.map(lambda begin: sum(range(begin, begin + 100)), range(0, 3000, 100)))
                    == 4498500
                )
                pool.submit(sum, range(total))
        except ThreadError:
            return  # it was closed meanwhile

    def change() -> None:
        for threads in (1, 4, 2, 5, 3):
            pool.resize(threads)
            pool.statistics()
        pool.close()

    at_once(use, use, use, change)
