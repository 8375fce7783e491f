"""weft generate --trace writes a timeline, weft trace sums it up."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cli.run_weft import Weft

NUM_TOKENS = 70  # steps without guesses, more than a trace holds in memory


@pytest.fixture(scope="module")
def timeline(weft: Weft, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    flags = ("-n", str(NUM_TOKENS), "--ignore-eos", "-t", "2", "--draft-max", "0", "--trace", path)
    weft.ok("generate", "-m", tiny, "-p", "A prompt of some tokens.", *flags)
    return path


def test_the_file_is_a_chrome_trace(timeline: Path) -> None:
    events = json.loads(timeline.read_text())
    spans = [event for event in events if event["ph"] == "X"]
    rows = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert set(rows) <= {1, 2} and rows[1] == "thread 1"
    assert {span["tid"] for span in spans} == set(rows)
    for row in rows:
        mine = sorted((span["ts"], span["ts"] + span["dur"]) for span in spans if span["tid"] == row)
        # A microsecond has three decimals.
        assert all(before[1] <= after[0] + 0.002 for before, after in pairwise(mine))
    assert {span["args"]["run"] for span in spans} == set(range(1, NUM_TOKENS + 1))
    assert "layers.1" in {span["args"]["where"] for span in spans}


def test_every_operation_is_counted_once_a_run(timeline: Path, tiny: Path) -> None:
    import weft

    with weft.load(tiny, threads=1) as model:
        plan = model.plan()
    first_run = [event for event in json.loads(timeline.read_text()) if event["ph"] == "X"]
    first_run = [span for span in first_run if span["args"]["run"] == 1]
    rows = len("A prompt of some tokens.")
    sizes = {"rows": rows, "outputs": 1, "sequences": 1, "context": (rows + 1) / 2}
    assert sum(span["args"].get("flops", 0) for span in first_run) == pytest.approx(plan.flops(sizes))
    assert sum(span["args"].get("bytes", 0) for span in first_run) == pytest.approx(plan.bytes(sizes))


def test_the_summary_in_the_terminal(weft: Weft, timeline: Path) -> None:
    text = weft.ok("trace", timeline)
    assert f"{NUM_TOKENS} runs" in text and "rms_norm+linear" in text and "thread 1" in text and "%" in text
    assert "\x1b" not in text
    assert "–" in weft.ok("trace", "--no-limits", timeline)


def test_the_summary_as_json(weft: Weft, timeline: Path) -> None:
    told = json.loads(weft.ok("trace", timeline, "--json"))
    assert told["num_runs"] == NUM_TOKENS and 0 < told["run_s"] <= told["total_s"]
    assert all(operation["share_of_limit"] >= 0 for operation in told["operations"])
    assert all(0 <= thread["busy_share"] <= 1.0001 for thread in told["threads"])
    events = [event for event in json.loads(timeline.read_text()) if event["ph"] == "X"]
    assert sum(t["busy_s"] for t in told["threads"]) == pytest.approx(sum(e["dur"] for e in events) * 1e-6)
    assert sum(o["thread_s"] for o in told["operations"]) == pytest.approx(
        sum(e["dur"] for e in events) * 1e-6
    )
    assert told["operations"] == sorted(told["operations"], key=lambda o: -o["time_s"])


def test_a_timeline_of_another_machine_has_no_shares(weft: Weft, timeline: Path, tmp_path: Path) -> None:
    other = timeline.read_text().replace('"isa":"', '"isa":"other-')
    (tmp_path / "other.json").write_text(other)
    done = weft("trace", tmp_path / "other.json", "--json")
    assert json.loads(done.stdout)["limits"] is None and "another machine" in done.stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"[1]", b"[]", b"[" * 100_000, b"\xff", b'[{"ph":"X"}]', b'[{"ph":"X","args":[]}]',
     b'[{"ph":"X","ts":"1","dur":1,"tid":1,"name":"x","args":{"run":1,"node":1,"weight":""}}]'],
)  # fmt: skip
def test_files_that_are_no_timeline(weft: Weft, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    assert "weft generate --trace" in (said := weft.fails(1, "trace", tmp_path / "t.json")) or "spans" in said


def test_a_file_that_is_not_there(weft: Weft, tmp_path: Path) -> None:
    assert "No such file" in weft.fails(1, "trace", tmp_path / "none.json")
    weft.fails(2, "trace")
