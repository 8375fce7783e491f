"""Models from many threads of a Python without its global lock: what `tools/check_free_threaded.sh` runs.

    python tools/free_threaded.py write FOLDER          with any Python: tiny models, and their answers
    python3.13t tools/free_threaded.py check FOLDER     the same answers to the bit, from many threads at once

The second needs NumPy alone: prompts are token ids, and a stand-in tells the tokens of ids.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import weft
from tests.support import plain_tokenizers
from tools.many_threads import answer_many, answer_on_two_models, bits, change_pools, texts_of

FAMILIES = ("llama", "gpt2")
REQUESTS = bits.random_requests(32, 256, longest=200, max_tokens=16)
ANSWERS, SCORES = "answers.txt", "scores.txt"


def write(folder: Path) -> None:
    """Writes tiny models into `folder`, and what the first of them answers."""
    from tests.support.tiny_folders import WRITERS

    for family in FAMILIES:
        WRITERS[family](folder / family)
    answers, scores = alone(folder / FAMILIES[0])
    (folder / ANSWERS).write_text(repr(answers))
    (folder / SCORES).write_text(repr(scores))


def alone(model_folder: Path) -> tuple[list[bits.Answer], list[tuple[int, ...]]]:
    """Answers and scores of one thread, one request at a time."""
    with weft.load(model_folder, threads=1) as model:
        return bits.answers(model, REQUESTS, batch=1), bits.scores(model, texts_of(REQUESTS))


def check(folder: Path) -> None:
    """Raises AssertionError where the lock is on, or anything differs from what `write` saw."""
    plain_tokenizers.install()
    answers, scores = alone(folder / FAMILIES[0])
    assert not sys._is_gil_enabled(), "expected the lock off, something that was imported turned it on"
    assert repr(answers) == (folder / ANSWERS).read_text(), "answers differ from those of the other Python"
    assert repr(scores) == (folder / SCORES).read_text(), "scores differ from those of the other Python"
    for threads, teams in ((2, 1), (4, 2), (8, 1)):
        with weft.load(folder / FAMILIES[0], threads=threads, teams=teams) as model:
            answer_many(model, REQUESTS, answers, scores)
        print(f"  the same answers from five callers: {threads} threads in {teams} teams")
    answer_on_two_models([folder / family for family in FAMILIES], REQUESTS)
    for _ in range(10):
        change_pools()
    print("  the same from two models at once; pools resized and closed while used")


if __name__ == "__main__":
    place = Path(sys.argv[2])
    os.environ["WEFT_HOME"] = str(place / "home")
    {"write": write, "check": check}[sys.argv[1]](place)
