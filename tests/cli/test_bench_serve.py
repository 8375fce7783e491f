"""weft bench --serve: load against the real server, and against one that is no server."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.cli.run_weft import Weft
from weft.errors import ConfigError
from weft.tasks.load_client import Outcome, Target
from weft.tasks.load_config import LoadConfig, span
from weft.tasks.load_run import percentile, summary

SHORT = ("--requests", "12", "--prompt-tokens", "2-8", "--answer-tokens", "3-6")


@pytest.fixture
def server(weft: Weft, tiny: Path):
    pytest.importorskip("starlette", reason="starlette is not installed")
    from tests.server.running_server import running

    with running(tiny, Path(weft.environment["WEFT_HOME"]), "--api-key-file", _keys(tiny)) as started:
        yield started


def _keys(folder: Path) -> Path:
    path = folder.parent / "keys"
    path.write_text("sesame\n")
    return path


def test_load_on_a_running_server(weft: Weft, tiny: Path, server, tmp_path: Path) -> None:
    flags = ("--rate", "200", "--at-once", "1,4", *SHORT, "--json", tmp_path / "out.json", "-q")
    run = ("bench", "--serve", f"{server.url}/v1", *flags)
    shown = weft.ok(*run, "--api-key", "sesame")
    assert "200/s" in shown and "4 at once" in shown
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["model"] == tiny.name and facts["settings"]["requests"] == 12
    assert [result["load"] for result in facts["loads"]] == ["200/s", "1 at once", "4 at once"]
    for result in facts["loads"]:
        assert result["requests"] == 12 and result["failures"] == 0
        assert 12 * 3 <= result["answer_tokens"] <= 12 * 6
        times = result["first_token_s"]
        assert 0 < times["median"] <= times["p95"] <= times["p99"]
        assert result["requests_per_s"] * result["seconds"] == pytest.approx(12)
    _, _, metrics = server.call("GET", "/metrics", headers={"authorization": "Bearer sesame"})
    assert b'weft_requests_finished_total{reason="length"} 37\n' in metrics, "36, and one to try"
    assert "check URL and key" in weft.fails(2, *run)
    assert "ask for what is served" in weft.fails(2, *run, "--api-key", "sesame", "-m", "other")


def test_a_server_is_started_for_it(weft: Weft, tiny: Path) -> None:
    told = json.loads(weft.ok("bench", "--serve", tiny, "--at-once", "2", *SHORT, "--json", "-"))
    assert told["loads"][0]["failures"] == 0 and told["url"].startswith("http://127.0.0.1:")
    assert "says why" in weft.fails(1, "bench", "--serve", "no-such-model", "-q")


def test_what_is_no_server_is_refused(weft: Weft) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "check URL and key" in weft.fails(2, "bench", "--serve", f"http://127.0.0.1:{port}", "-q")
    assert "--rate" in weft.fails(2, "bench", "--serve", "http://x", "--rate", "fast")
    for url in ("ftp://x", "http://", "http://x:port"):
        with pytest.raises(ConfigError, match="correct it"):
            Target.of(url)
    assert Target.of("https://host/base/v1/") == Target("host", 443, "/base", True)


def test_times_are_counted_as_they_are_called() -> None:
    good = Outcome(0.0, [1.0, 1.05, 1.1], 1.1, 5, 3)
    late = Outcome(0.0, [2.5, 2.6], 2.6, 5, 2)
    slow = Outcome(0.0, [0.5, 0.7], 0.7, 5, 2)
    failed = Outcome(0.0, failure="status 429: queue")
    found = summary([good, late, slow, failed], 10.0)
    assert (found["requests"], found["failures"], found["requests_per_s"]) == (4, 1, 0.3)
    assert found["goodput_per_s"] == 0.1 and found["good_share"] == 0.25
    assert found["failure_reasons"] == {"status 429: queue": 1} and found["answer_tokens"] == 7
    assert found["first_token_s"]["median"] == 1.0 and found["first_token_s"]["p99"] == 2.5
    assert [percentile(range(1, 101), percent) for percent in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 50) == 7.0
    assert summary([failed], 1.0)["first_token_s"] is None


def test_spans() -> None:
    assert span("x", "64-128") == (64, 128) and span("x", "5") == (5, 5)
    for text in ("", "0", "9-3", "a-b", "-3"):
        with pytest.raises(ConfigError, match="smaller number first"):
            span("x", text)
    with pytest.raises(ConfigError, match="time limit"):
        LoadConfig(time_limit=0)
