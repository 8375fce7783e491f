"""The ring of the last runs: recorded while somebody looks, and without effect on what is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("weft._native", reason="the native core is not built")

import weft
from tests.support.tiny_folder import write_tiny_folder
from weft.serve import recent_runs
from weft.serve.recent_runs import RecentRuns
from weft.serve.trace import trace_to

PROMPTS = ["Weft", "warp and weft"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[weft.Model]:
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    # Guesses, and with them the rows of a run, would depend on how long steps take.
    with weft.load(write_tiny_folder(tmp_path / "tiny"), threads=4, teams=2, draft_max=0) as loaded:
        yield loaded


def answers(model: weft.Model) -> list[str]:
    return [answer.text for answer in model.generate(PROMPTS, max_tokens=12, seed=1, ignore_eos=True)]


def test_the_last_runs_are_kept_and_change_nothing(model: weft.Model) -> None:
    recent = RecentRuns(model.runner, num_runs=6)
    expected = answers(model)
    assert recent.look() == []
    assert answers(model) == expected
    runs = recent.look()
    assert len(runs) == 6 and {run.team for run in runs} == {0, 1}
    assert runs == sorted(runs, key=lambda run: run.begin_ns)
    for run in runs:
        assert run.num_rows == run.num_sequences == 1
        assert run.begin_ns <= run.spans["begin_ns"].min() and run.spans["end_ns"].max() <= run.end_ns
        names = {name for name, _ in run.operations().values()}
        assert "attention" in names and "sample" in names


def test_it_goes_when_nobody_looks(model: weft.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentRuns(model.runner)
    assert model.runner.tracer is None
    recent.look()
    assert model.runner.tracer is recent
    answers(model)
    assert model.runner.tracer is recent
    monkeypatch.setattr(recent_runs, "ATTENTION_NS", 0)
    before = recent.look()
    answers(model)
    assert model.runner.tracer is None
    assert recent.look() == before


def test_a_timeline_that_is_written_goes_first(model: weft.Model, tmp_path: Path) -> None:
    recent = RecentRuns(model.runner)
    with trace_to(model.runner, tmp_path / "trace.json") as trace:
        recent.look()
        assert model.runner.tracer is trace
        answers(model)
    assert recent.look() == []
