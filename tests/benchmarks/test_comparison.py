"""The comparison's own rules: the winner of the tries, ratios of rounds, the lock, and fresh results."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from peers.lock import MeasuringLock  # noqa: E402 (benchmarks are scripts, not a package)
from peers.process import Contender, PeerProcess  # noqa: E402
from peers.rounds import Rounds, Series, ratio  # noqa: E402
from peers.tuning import best_turn, fastest  # noqa: E402

QUICK = Rounds(count=1, foreign_limit=None, attempts=1)


class FakePeer:
    """Answers as an engine would: `b` is faster than `a`, `broken` fails, one thread beats two."""

    def cpu_seconds(self) -> float:
        return 0.0

    def ask(self, **request: Any) -> dict[str, Any]:
        if request.get("candidates"):
            return {"candidates": [{"kind": "a"}, {"kind": "b"}, {"kind": "broken"}]}
        kind = request["settings"]["kind"]
        if kind == "broken":
            return {"error": "no such kind"}
        return {"seconds": [{"a": 2.0, "b": 1.0}[kind] * request["threads"]]} if request["repeat"] else {}


def test_the_fastest_candidate_wins_with_its_best_number_of_threads() -> None:
    turn, tried = best_turn("fake", FakePeer(), "decode1", [1, 2], QUICK)  # type: ignore[arg-type]
    assert turn.request == {"work": "decode1", "threads": 1, "settings": {"kind": "b"}}
    assert [one.get("error") for one in tried] == [None, None, "no such kind", None]


def test_no_candidate_wins_when_all_fail() -> None:
    assert fastest([{"error": "x"}, {"error": "y"}]) is None


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    ours, theirs = Series("weft"), Series("other")
    for mine, yours in ((1.0, 2.0), (2.0, 6.0), (1.0, 10.0)):
        ours.add({"seconds": [mine]})
        theirs.add({"seconds": [yours]})
    assert ratio(ours, theirs) == 3.0
    theirs.add({"error": "gone"})
    assert ratio(ours, theirs) is None


def is_free(path: Path) -> bool:
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_the_lock_is_kept_between_measurements_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    lock = MeasuringLock(path)
    with lock.hold():
        assert not is_free(path)
    assert not is_free(path)
    lock.release()
    assert is_free(path)
    monkeypatch.setattr("peers.lock.LONGEST_HOLD_SECONDS", 0.0)
    with lock.hold():
        pass
    assert is_free(path)


def test_processor_time_counts_the_children_of_a_peer(tmp_path: Path) -> None:
    script = tmp_path / "peer.py"
    script.write_text(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'import time\\nwhile time.process_time() < 0.3: pass\\nprint(1, flush=True)\\ninput()'], "
        "stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\ninput()\nprint('{}', flush=True)\ninput()\n"
    )
    with PeerProcess(Contender("parent", sys.executable, str(script), "none")) as process:
        process.ask(work="any")
        assert process.cpu_seconds() > 0.25
        assert process.process.stdin is not None
        process.process.stdin.write("\n")


def test_the_page_of_results_is_fresh() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARKS / "report.py"), "--check"], capture_output=True)
    assert done.returncode == 0, done.stderr
