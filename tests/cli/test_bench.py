"""weft bench: what is measured, for which threads, and that the answers are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.run_weft import Weft
from weft.errors import ConfigError, WeftError
from weft.machine import MachineLimits
from weft.tasks.bench import Speed, Work, measure_speeds, thread_counts

LIMITS = MachineLimits(1e11, 2e11, 3e11, 4e11, 1e10)
WORKS = [Work("prompt", 1, 20, 1), Work("alone", 1, 5, 6), Work("batch", 3, 5, 4)]


def test_the_limits_alone(weft: Weft) -> None:
    told = json.loads(weft.ok("bench", "-t", "1", "--json", "-"))
    assert told["speeds"] == [] and told["model"] is None
    (limits,) = told["limits"]
    assert limits["threads"] == 1 and all(value > 0 for value in limits.values())


def test_a_model_is_measured(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    run = ("bench", "-m", tiny, "--quick", "--threads", "2,1,2", "--json", tmp_path / "bench.json")
    text = weft.ok(*run)
    assert "prompt of 256" in text and "share of limit" in text and "\x1b" not in text
    told = json.loads((tmp_path / "bench.json").read_text())
    assert [limits["threads"] for limits in told["limits"]] == [1, 2]
    measured = [(speed["batch"], speed["threads"]) for speed in told["speeds"]]
    assert measured == [(1, 1), (1, 2), (1, 1), (1, 2), (8, 1), (8, 2), (64, 1), (64, 2)]
    for speed in told["speeds"]:
        assert min(speed["rounds_tokens_per_s"]) <= speed["tokens_per_s"] <= max(speed["rounds_tokens_per_s"])
        assert speed["speed_up"] > 0 and speed["share_of_limit"] > 0
    assert told["same_tokens"] is True


def test_bad_input(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    for threads in ("", "0", "1,x", "-1"):
        assert "1,2,4" in weft.fails(2, "bench", "-m", tiny, f"--threads={threads}")
    assert "did you mean" in weft.fails(1, "bench", "-m", "smolm2-135m-instruct")


def test_thread_counts() -> None:
    assert [thread_counts(most) for most in (1, 2, 3, 4, 6)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4],
        [1, 2, 4, 6],
    ]


def test_rounds_take_turns(tiny: Path) -> None:
    import weft

    shown: list[str] = []
    with weft.load(tiny, threads=3) as model:
        speeds = measure_speeds(model, WORKS, {1: LIMITS, 3: LIMITS}, 2, shown.append)
        assert model.pool.num_threads == 3
        plan = model.plan()
    assert [(s.work, s.threads) for s in speeds] == [(work, threads) for work in WORKS for threads in (1, 3)]
    assert all(len(s.rounds) == 2 for s in speeds)
    assert [text.split(": ", 1)[0] for text in shown] == 6 * ["warming up"] + 6 * ["round 1 of 2"] + 6 * [
        "round 2 of 2"
    ]
    batch = speeds[-1]
    costs = plan.costs({"rows": 3, "outputs": 3, "sequences": 3, "context": 7.0})
    least = max(sum(c.flops for c in costs) / 1e11, sum(c.bytes for c in costs) / 1e10)
    assert batch.least_s == pytest.approx(least)
    assert batch.limit_tokens_per_s == pytest.approx(3 / least)
    assert batch.share == pytest.approx(batch.tokens_per_s / batch.limit_tokens_per_s)


def test_other_tokens_are_noticed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import weft
    from weft.tasks import bench

    run = bench._run
    runs = iter(range(100))

    def wrong_at_the_third(model: weft.Model, work: Work) -> tuple[float, list[list[int]]]:
        speed, tokens = run(model, work)
        return speed, [[token + (next(runs) == 2) for token in answer] for answer in tokens]

    monkeypatch.setattr(bench, "_run", wrong_at_the_third)
    with weft.load(tiny, threads=2) as model, pytest.raises(WeftError, match="same tokens"):
        measure_speeds(model, [Work("prompt", 1, 20, 1)], {1: LIMITS, 2: LIMITS}, 2)


def test_a_context_too_short_is_refused(tiny: Path) -> None:
    import weft

    with weft.load(tiny, threads=1, max_context=64) as model, pytest.raises(ConfigError, match="context"):
        measure_speeds(model, [Work("prompt", 1, 64, 1)], {1: LIMITS}, 1)


def test_spread_and_median() -> None:
    speed = Speed(WORKS[1], 1, 0.5, [2.0, 8.0, 4.0])
    assert (speed.tokens_per_s, speed.spread, speed.limit_tokens_per_s, speed.share) == (4.0, 1.5, 2.0, 2.0)


def test_training_is_measured(weft: Weft, tmp_path: Path) -> None:
    sizes = tmp_path / "sizes.json"
    sizes.write_text(json.dumps({"preset": "lstm-tiny", "vocab_size": 60, "hidden_size": 16}))
    sized = ("--batch-size", "4", "--max-seq-length", "8", "--json", tmp_path / "bench.json")
    assert "Training" in weft.ok("bench", "--train", "-m", sizes, "--quick", "-t", "1,2", *sized)
    told = json.loads((tmp_path / "bench.json").read_text())
    settings = [(one["threads"], one["teams"], one["slices"]) for one in told["training"]]
    assert settings == [(1, 1, 1), (2, 1, 1), (2, 2, 2)]
    for one in told["training"]:
        assert one["tokens_per_step"] == 32 and len(one["rounds_tokens_per_s"]) == 2
        assert one["speed_up"] > 0 and one["share_of_limit"] > 0 and one["memory_bytes"] > 0
    assert told["training"][0]["losses"] == told["training"][1]["losses"] and told["same_losses"] is True


def test_training_flags_need_a_model_and_the_flag(weft: Weft, tiny: Path) -> None:
    assert "add --train" in weft.fails(2, "bench", "-m", tiny, "--batch-size", "4")
    assert "pass -m" in weft.fails(2, "bench", "--train")


def test_other_losses_are_noticed() -> None:
    from weft.tasks.train_bench import TrainSpeed, _check_losses

    one = TrainSpeed(1, 1, 1, 32, 1.0, 1, losses=[2.5, 2.0])
    cut = TrainSpeed(2, 2, 2, 32, 1.0, 1, losses=[2.5, 2.1])
    _check_losses([one, cut])
    with pytest.raises(WeftError, match="same losses"):
        _check_losses([one, cut, TrainSpeed(2, 1, 1, 32, 1.0, 1, losses=[2.5, 2.1])])
