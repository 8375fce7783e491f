"""The same bits, whatever runs beside a request: what docs/determinism.md promises, for whole answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import answers as bits
from support.steps import PagedTexts
from support.tiny_folders import CONTEXT, VOCABULARY, WRITERS, write_llama

import weft
from weft.config import QUANT_KINDS
from weft.errors import WeftError
from weft.runtime import KvCache, compile
from weft.serve import call_length
from weft.types import BLOCK_TOKENS

REQUESTS = bits.random_requests(64, VOCABULARY, longest=150, max_tokens=6)
TEXTS = [request.prompt for request in REQUESTS if len(request.prompt) > 1]

Load = Callable[..., weft.Model]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of packed weights of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("WEFT_HOME", str(folder))
        yield folder


KINDS = [(name, quant) for name in WRITERS for quant in QUANT_KINDS]


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Loads the tiny model of this round; keywords as `weft.load` has them."""
    name, quant = request.param
    folder = WRITERS[name](tmp_path_factory.mktemp("models") / name)
    return lambda **settings: weft.load(folder, **({"quant": quant, "threads": 1} | settings))


@pytest.fixture(scope="module")
def alone(load: Load) -> tuple[list[bits.Answer], list[tuple[int, ...]]]:
    """Answers and scores, one request after another on one thread."""
    with load() as model:
        scores = [bits.scores(model, [text])[0] for text in TEXTS]
        return bits.answers(model, REQUESTS, batch=1), scores


def check(model: weft.Model, alone: Any, batch: int = 64) -> None:
    with model:
        assert bits.answers(model, REQUESTS, batch) == alone[0]
        assert bits.scores(model, TEXTS) == alone[1]


def test_the_requests_tell_much(alone: Any) -> None:
    answers, scores = alone
    assert len({answer[1] for answer in answers}) > 50, "distinct answers"
    assert {answer[2] for answer in answers} >= {"length"}
    assert len({len(text) for text in TEXTS}) > 15
    assert all(np.isfinite(np.array(row, np.uint32).view(np.float32)).all() for row in scores)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads(load: Load, alone: Any, threads: int) -> None:
    check(load(threads=threads), alone)


@pytest.mark.parametrize(("threads", "teams"), [(2, 2), (3, 2), (8, 3), (8, 8)])
def test_teams(load: Load, alone: Any, threads: int, teams: int) -> None:
    check(load(threads=threads, teams=teams), alone)


def test_batch_sizes(load: Load, alone: Any) -> None:
    with load(threads=2) as model:
        for batch in (2, 3, 8, 13, 33):
            assert bits.answers(model, REQUESTS, batch) == alone[0], f"{batch} at once"


def test_steps_of_a_call(load: Load, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for longest_call_s in (0.0, 1.0):
        monkeypatch.setattr(call_length, "_LONGEST_CALL_S", longest_call_s)
        check(load(threads=2), alone, batch=3)


def test_order_of_requests(load: Load, alone: Any) -> None:
    shuffled = np.random.default_rng(3).permutation(len(REQUESTS)).tolist()
    with load(threads=2) as model:
        for order in (list(range(len(REQUESTS)))[::-1], shuffled):
            got = bits.answers(model, [REQUESTS[number] for number in order])
            assert got == [alone[0][number] for number in order]
        assert bits.scores(model, TEXTS[::-1]) == alone[1][::-1]


@pytest.mark.parametrize("max_rows", [1, 7, 64, 129])
def test_chunks_of_prompts(load: Load, alone: Any, max_rows: int) -> None:
    check(load(threads=2, max_rows=max_rows), alone)


def test_recomputation_under_pressure(load: Load, alone: Any) -> None:
    with load() as model:
        block_bytes = model.cache.type.token_bytes * model.cache.type.layers * BLOCK_TOKENS
    model = load(threads=2, kv_memory=block_bytes * (CONTEXT // BLOCK_TOKENS))
    long = [bits.Request(r.prompt[:20], r.settings | {"max_tokens": 60}) for r in REQUESTS[:24]]
    with load() as roomy, model:
        assert bits.answers(model, long) == bits.answers(roomy, long, batch=1)
        assert model.engine.scheduler.num_preemptions > 0, "too much memory to show anything"
        assert roomy.engine.scheduler.num_preemptions == 0
        assert bits.answers(model, REQUESTS) == alone[0]
        assert bits.scores(model, TEXTS) == alone[1]


class FreeRows:
    """Costs of steps as if further rows came for nothing: whatever may be right is guessed."""

    def observe(self, num_rows: int, seconds: float) -> None:
        return None

    def estimate(self, num_rows: int) -> float:
        return 1.0


def test_guessing_ahead(load: Load) -> None:
    """With repeated texts, under each kind of sampling, with log-probabilities and penalties."""
    part = np.random.default_rng(7).integers(0, VOCABULARY, 12).tolist()
    repeated = [bits.Request(part * 3 + r.prompt[:3], r.settings | {"max_tokens": 24}) for r in REQUESTS[:12]]
    with load(draft_max=0) as model:
        expected = bits.answers(model, repeated, batch=1)
        assert model.engine.statistics.num_drafted == 0
    for draft_max, batch, settings in (
        (16, 1, {}),
        (3, 8, {"threads": 2}),
        (40, 32, {"threads": 3, "teams": 2}),
    ):
        with load(draft_max=draft_max, **settings) as model:
            model.engine.drafter.costs = FreeRows()
            assert bits.answers(model, repeated, batch) == expected
            counts = model.engine.statistics
            assert 0 < counts.num_accepted < counts.num_drafted


def test_first_and_second_start(load: Load, alone: Any, home: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(tmp_path))
        check(load(threads=2), alone)
        assert any((tmp_path / "packed").iterdir()), "packed weights were kept"
        check(load(threads=2), alone)


def test_streamed_or_whole(load: Load, alone: Any) -> None:
    with load(threads=2) as model:
        for request, answer in zip(REQUESTS, alone[0], strict=True):
            assert bits.answer_of(model.generate([request.prompt], **request.settings)[0]) == answer
        same = REQUESTS[1].settings
        together = model.generate([request.prompt for request in REQUESTS], **same)
        one_by_one = bits.answers(model, [bits.Request(r.prompt, same) for r in REQUESTS], batch=1)
        assert [bits.answer_of(completion) for completion in together] == one_by_one


def logits(model: weft.Model, steps: Sequence[Sequence[tuple[int, Any]]]) -> dict[int, np.ndarray]:
    """Raw bits uint32 [tokens, V] of each text's logits, its tokens coming as `steps` say."""
    plan = model.plan(rows=200, purpose="logits")
    executable = compile(plan, model.pool, model._loaded.weights, {"cache": KvCache(model.cache.type, 64)})
    texts, rows = PagedTexts(64), {}
    for step in steps:
        got = executable.run(texts.step(step))["logits"].copy().view(np.uint32)
        ends = np.cumsum([len(tokens) for _, tokens in step])[:-1]
        for (text, _), part in zip(step, np.split(got, ends), strict=True):
            rows.setdefault(text, []).append(part)
    return {text: np.concatenate(parts) for text, parts in rows.items()}


def test_logits(load: Load) -> None:
    first, second = np.split(np.random.default_rng(4).integers(0, VOCABULARY, 100), [60])
    whole = [[(0, first)], [(1, second)]]
    beside = [[(1, second[:1]), (0, first[:33])], [(0, first[33:34]), (1, second[1:20])]]
    beside += [[(0, first[34:]), (1, second[20:])]]
    single = [[(0, [token])] for token in first] + [[(1, [token])] for token in second]
    with load() as model:
        expected = logits(model, whole)
    for threads in (1, 3):
        for steps in (whole, beside, single):
            with load(threads=threads) as model:
                got = logits(model, steps)
            for text, rows in expected.items():
                np.testing.assert_array_equal(got[text], rows)


def test_long_context_in_windows_and_parts(tmp_path: Path) -> None:
    """Attention divides a long text at fixed positions, whatever the chunks and threads."""
    long = np.random.default_rng(5).integers(0, VOCABULARY, 1100).tolist()
    requests = [bits.Request(long[:length], bits.SETTINGS[0] | {"logprobs": 2, "max_tokens": 12})
                for length in (1100, 3, 511, 700, 40)]  # fmt: skip
    windows = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 90}
    for own in ({}, windows):
        folder = write_llama(tmp_path / str(len(own)), max_position_embeddings=1200, **own)
        with weft.load(folder, threads=1, max_rows=1200) as model:
            expected = bits.answers(model, requests, batch=1), bits.scores(model, [long])
        for threads, teams, max_rows in ((8, 1, 512), (3, 1, 77), (2, 2, 300)):
            with weft.load(folder, threads=threads, teams=teams, max_rows=max_rows) as model:
                assert bits.answers(model, requests) == expected[0]
                assert bits.scores(model, [long]) == expected[1]


def test_the_real_model() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WEFT_HOME")
        try:
            alone = weft.load("smollm2-135m-instruct", threads=1)
        except WeftError as error:
            pytest.skip(f"smollm2-135m-instruct is not at hand: {error}")
        requests = bits.random_requests(9, 49152, longest=60, max_tokens=4)
        texts = [request.prompt for request in requests if len(request.prompt) > 1]
        with alone:
            expected = bits.answers(alone, requests, batch=1), bits.scores(alone, texts)
        for settings in ({"threads": 2}, {"threads": 3, "teams": 2, "max_rows": 16}):
            with weft.load("smollm2-135m-instruct", **settings) as model:
                assert bits.answers(model, requests) == expected[0]
                assert bits.scores(model, texts) == expected[1]
