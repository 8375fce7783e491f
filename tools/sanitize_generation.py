"""What `tools/sanitize.sh` runs on the instrumented extension: answers of tiny models from many threads.

What the threads do is in `many_threads`; here with several threads and teams of the pool.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import weft
from tests.support.tiny_folders import VOCABULARY, WRITERS
from tools.many_threads import answer_many, answer_on_two_models, bits, change_pools, texts_of

REQUESTS = bits.random_requests(24, VOCABULARY, longest=200, max_tokens=16)


def main() -> None:
    """Runs everything; an assertion or a sanitizer's finding fails it."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["WEFT_HOME"] = str(Path(name) / "home")
        folders = [write(Path(name) / family) for family, write in WRITERS.items()]
        with weft.load(folders[0], threads=1, quant="q4") as model:
            expected, scores = bits.answers(model, REQUESTS, batch=1), bits.scores(model, texts_of(REQUESTS))
        for threads, teams, max_rows in ((3, 1, 512), (2, 2, 64), (4, 2, 33)):
            with weft.load(folders[0], threads=threads, teams=teams, max_rows=max_rows, quant="q4") as model:
                answer_many(model, REQUESTS, expected, scores)
        answer_on_two_models(folders, REQUESTS)
    change_pools()
    print("all answers are the same")


if __name__ == "__main__":
    main()
