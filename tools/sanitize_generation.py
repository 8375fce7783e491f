"""What `tools/sanitize.sh` runs on the instrumented extension: answers of tiny models from many threads.

Threads start from a barrier and make long native calls at once, so that the interpreter's lock does not order
what it should not: one model from several threads, teams, scores beside answers, two models, streams that are
dropped, a pool that is resized and closed while it runs. Answers are compared with those given alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import answers as bits
from support.tiny_folders import VOCABULARY, WRITERS

import weft
from weft.errors import ThreadError

REQUESTS = bits.random_requests(24, VOCABULARY, longest=200, max_tokens=16)
TEXTS = [request.prompt for request in REQUESTS if len(request.prompt) > 1]


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


def answer_many(model: weft.Model, expected: list[bits.Answer], scores: list[tuple[int, ...]]) -> None:
    """Answers, scores and dropped streams on one model from five threads."""

    def check(first: int, batch: int) -> Callable[[], None]:
        def work() -> None:
            assert bits.answers(model, REQUESTS[first:], batch) == expected[first:]

        return work

    def score() -> None:
        assert bits.scores(model, TEXTS) == scores

    def drop() -> None:
        for request in REQUESTS[:6]:
            stream = model.stream(request.prompt, max_tokens=None, ignore_eos=True)
            next(stream)
            if len(request.prompt) % 2:
                stream.close()

    at_once(check(0, 24), check(7, 3), check(12, 5), score, drop)


def answer_on_two_models(folders: list[Path]) -> None:
    """Two models at once, each on a pool of its own."""
    models = [weft.load(folder, threads=2) for folder in folders]
    alone = [bits.answers(model, REQUESTS) for model in models]

    def work(number: int) -> Callable[[], None]:
        def check() -> None:
            assert bits.answers(models[number], REQUESTS) == alone[number]

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


def main() -> None:
    """Runs everything; an assertion or a sanitizer's finding fails it."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["WEFT_HOME"] = str(Path(name) / "home")
        folders = [write(Path(name) / family) for family, write in WRITERS.items()]
        with weft.load(folders[0], threads=1, quant="q4") as model:
            expected, scores = bits.answers(model, REQUESTS, batch=1), bits.scores(model, TEXTS)
        for threads, teams, max_rows in ((3, 1, 512), (2, 2, 64), (4, 2, 33)):
            with weft.load(folders[0], threads=threads, teams=teams, max_rows=max_rows, quant="q4") as model:
                answer_many(model, expected, scores)
        answer_on_two_models(folders)
    change_pools()
    print("all answers are the same")


if __name__ == "__main__":
    main()
