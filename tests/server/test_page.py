"""The page's files and what feeds its view of the threads, without a browser."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

import weft.server
from tests.server.running_server import Server, running

STATIC = Path(weft.server.__file__).parent / "static"
CHAT = "/v1/chat/completions"
LONG = {"messages": [{"role": "user", "content": "a"}], "ignore_eos": True, "max_tokens": 800}


def test_the_page_and_all_it_names_are_served(server: Server) -> None:
    status, headers, content = server.call("GET", "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="(static/[^"]+)"', content.decode()))
    modules = {f"static/{path.name}" for path in STATIC.glob("*.js")}
    assert {"static/main.js", "static/base.css", "static/icon.svg"} <= named
    for place in named | modules:
        status, headers, content = server.call("GET", f"/{place}")
        assert status == 200 and content == (STATIC / Path(place).name).read_bytes()
        assert headers["x-content-type-options"] == "nosniff"
        kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
        assert headers["content-type"].startswith(kinds[Path(place).suffix])


def test_the_policy_lets_nothing_else_run_or_load(server: Server) -> None:
    policy = server.call("GET", "/")[1]["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    allowed = {
        source for name in ("script-src", "style-src", "connect-src") for source in rules[name].split()
    }
    assert allowed == {"'self'"}
    assert rules["require-trusted-types-for"] == "'script'" and rules["trusted-types"] == "'none'"
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text), path
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|Function\(", text
        ), path
        assert not re.search(r"<[^>]*\s(?:style|on\w+)=", text), path


def test_what_has_not_changed_is_not_sent_again(server: Server) -> None:
    _, headers, _ = server.call("GET", "/static/main.js")
    status, again, content = server.call("GET", "/static/main.js", headers={"if-none-match": headers["etag"]})
    assert (status, content, again["etag"]) == (304, b"", headers["etag"])
    assert server.call("GET", "/static/main.js", headers={"if-none-match": '"other"'})[0] == 200


@pytest.mark.parametrize(
    "path", ["/static/", "/static/page.py", "/static/../page.py", "/static/%2e%2e/page.py"]
)
def test_nothing_but_the_page_is_served(server: Server, path: str) -> None:
    assert server.call("GET", path)[0] == 404


def test_the_page_needs_no_key_and_the_threads_do(tiny: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret\n")
    with running(tiny, home, "--api-key-file", tmp_path / "keys") as server:
        assert server.call("GET", "/")[0] == 200
        assert server.call("GET", "/static/main.js")[0] == 200
        assert server.call("GET", "/threads")[0] == 401
        assert server.call("GET", "/threads", headers={"authorization": "Bearer secret"})[0] == 200


def test_threads_tell_what_runs(server: Server) -> None:
    before = server.ok("/threads")
    asking = threading.Thread(target=lambda: server.ok(CHAT, LONG))
    asking.start()
    server.wait_for_metric("weft_requests_running", 1)
    during = server.ok("/threads")
    asking.join()
    after = server.ok("/threads")
    assert during["requests"]["running"] == 1 and during["kv"]["used"] >= 1
    assert after["requests"] == {"running": 0, "waiting": 0, "limit": 512}
    assert after["kv"]["used"] == 0 and after["kv"]["idle"] >= 1
    assert after["tokens"] - before["tokens"] >= 800 and after["time_us"] > before["time_us"]
    assert [(row["team"], row["thread"]) for row in after["threads"]] == [(0, 0), (0, 1)]
    assert sum(row["busy_ns"] for row in after["threads"]) > sum(row["busy_ns"] for row in before["threads"])


def test_the_last_runs_are_told_span_by_span(server: Server) -> None:
    server.ok("/threads")  # from now on what runs is recorded
    server.ok(CHAT, LONG)
    timeline = json.loads(server.call("GET", "/threads")[2])
    assert len(timeline["runs"]) == 2
    names = {operation["name"] for operation in timeline["operations"]}
    assert any("linear" in name for name in names) and "attention" in names and "sample" in names
    end = 0.0
    for run in timeline["runs"]:
        assert (run["team"], run["requests"]) == (0, 1)
        assert 1 <= run["rows"] <= 1 + 16  # its own, and guesses where the text repeats
        assert run["begin_us"] >= end - 1
        end = run["begin_us"] + run["duration_us"]
        assert {operation for _, operation, _, _ in run["spans"]} == set(range(len(timeline["operations"])))
        for thread, _, begin, length in run["spans"]:
            assert thread in (0, 1) and begin >= 0 and length >= 0
            assert begin + length <= run["duration_us"] + 1
