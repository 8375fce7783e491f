"""What `tools/sanitize.sh` runs on the instrumented extension: answers of tiny models from many threads.

What the threads do is in `many_threads`; here with several threads and teams of the pool, and with every type
of weights and of keys and values.
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

# Of weights and of the cache, with threads, teams and rows of a step.
TYPES = [
    ("q4", "f16", 3, 1, 512),
    ("q4", "bf16", 2, 2, 64),
    ("int8", "bf16", 4, 2, 33),
    ("q8", "f32", 2, 1, 64),
    ("bf16", "bf16", 3, 1, 64),
    ("f32", "f32", 2, 2, 33),
]


def check_types(folder: Path, quant: str, kv_dtype: str, threads: int, teams: int, max_rows: int) -> None:
    """Answers and scores from many threads are those of one thread and one request at a time."""
    with weft.load(folder, threads=1, quant=quant, kv_dtype=kv_dtype) as model:
        expected, scores = bits.answers(model, REQUESTS, batch=1), bits.scores(model, texts_of(REQUESTS))
    pool = {"threads": threads, "teams": teams, "max_rows": max_rows}
    with weft.load(folder, quant=quant, kv_dtype=kv_dtype, **pool) as model:
        answer_many(model, REQUESTS, expected, scores)


def main() -> None:
    """Runs everything; an assertion or a sanitizer's finding fails it."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["WEFT_HOME"] = str(Path(name) / "home")
        folders = [write(Path(name) / family) for family, write in WRITERS.items()]
        for types in TYPES:
            check_types(folders[0], *types)
        answer_on_two_models(folders, REQUESTS)
    change_pools()
    print("all answers are the same")


if __name__ == "__main__":
    main()
