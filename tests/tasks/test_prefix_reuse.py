"""The same bits with a cold cache and a warm one, for whole answers of real plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import answers as bits
from support.tiny_folders import VOCABULARY, WRITERS

import weft
from weft.types import BLOCK_TOKENS


def requests() -> list[bits.Request]:
    """Texts of which many begin as others do, for a block, for several, or to the end."""
    generator = np.random.default_rng(3)
    begins = [generator.integers(0, VOCABULARY, n).tolist() for n in (40, 70, 100)]
    made = []
    for number, request in enumerate(bits.random_requests(24, VOCABULARY, longest=30, max_tokens=6)):
        begin = begins[number % 3][: BLOCK_TOKENS * (1 + number % 4)]
        made.append(bits.Request([*begin, *request.prompt], request.settings))
    return made


@pytest.mark.parametrize("name", [*WRITERS])
def test_cold_and_warm_answers_are_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    folder = WRITERS[name](tmp_path / name)
    cold = []
    for request in requests():
        with weft.load(folder, threads=1) as model:
            cold += bits.answers(model, [request])
            assert model.engine.scheduler.num_reused_tokens == 0
    with weft.load(folder, threads=2, kv_memory="1MiB") as model:
        for batch in (64, 1, 5):
            assert bits.answers(model, requests(), batch) == cold
        assert model.engine.scheduler.num_reused_tokens > 24 * BLOCK_TOKENS
        texts = [request.prompt for request in requests()]
        warm = bits.scores(model, texts)
    with weft.load(folder, threads=1) as model:
        assert bits.scores(model, texts) == warm
