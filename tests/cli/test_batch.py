"""weft batch: the real command, also killed, on a full disk and with requests that are wrong."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run_weft import Terminal, Weft, command
from tests.support.tiny_adapter import write_tiny_adapter

GREEDY = {"temperature": 0, "ignore_eos": True}


def request(name: str, url: str = "/v1/completions", **body: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": url, "body": GREEDY | body}


def write(path: Path, requests: list[Any]) -> Path:
    lines = [item if isinstance(item, str) else json.dumps(item) for item in requests]
    path.write_text("\n".join(lines) + "\n")
    return path


def many(count: int) -> list[dict[str, Any]]:
    """Requests of different lengths."""
    return [request(f"r{n}", prompt=f"The loom {n}", max_tokens=1 + n * 7 % 40) for n in range(count)]


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(path: Path) -> list[tuple[str, str]]:
    """Names and answers, which depend on the requests alone."""
    return [(item["custom_id"], item["response"]["body"]["choices"][0]["text"]) for item in results(path)]


@pytest.fixture
def expected(weft: Weft, tiny: Path, tmp_path: Path) -> list[tuple[str, str]]:
    """The answers to `many(60)`, undisturbed."""
    path = tmp_path / "expected.jsonl"
    weft.ok("batch", write(tmp_path / "in.jsonl", many(60)), "-o", path, "-m", tiny)
    return texts(path)


def test_answers_are_those_of_generate(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 9, "model": tiny.name}
    requests = [
        request("chat", "/v1/chat/completions", **chat),
        request("two", prompt=["The loom", "A thread"], max_tokens=5, logprobs=2),
        request("scored", prompt="The loom", max_tokens=0, echo=True, logprobs=0),
        request("rest", prompt="The loom"),
    ]
    path = tmp_path / "out.jsonl"
    done = weft("batch", write(tmp_path / "in.jsonl", requests), "-o", path, "-m", tiny)
    assert done.returncode == 0 and done.stdout == "" and "4 of 4 results" in done.stderr
    found = results(path)
    assert [item["custom_id"] for item in found] == ["chat", "two", "scored", "rest"]
    assert all(item["error"] is None and item["response"]["status_code"] == 200 for item in found)
    bodies = [item["response"]["body"] for item in found]
    assert bodies[0]["object"] == "chat.completion" and bodies[0]["usage"]["completion_tokens"] == 9
    for prompt, choice in zip(("The loom", "A thread"), bodies[1]["choices"], strict=True):
        run = ("generate", "-m", tiny, "-p", prompt, "-n", "5", "--temp", "0", "--ignore-eos")
        told = json.loads(weft.ok(*run, "--logprobs", "2", "--json", "-q"))
        assert choice["text"] == told["text"]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(told["logprobs"], abs=0)
    assert bodies[2]["choices"][0]["text"] == "The loom"
    assert bodies[3]["usage"]["completion_tokens"] == 16, "OpenAI's default"


def test_flags_are_for_what_requests_leave_out(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    message = [{"role": "user", "content": "Hi"}]
    requests = [
        request("a", prompt="x"),
        request("b", prompt="x", max_tokens=3, logprobs=1),
        request("c", "/v1/chat/completions", messages=message),
        request("d", "/v1/chat/completions", messages=message, max_completion_tokens=4, logprobs=False),
    ]
    path = tmp_path / "out.jsonl"
    flags = ("-n", "7", "--logprobs", "2", "--stop", "never this", "--served-name", "mine")
    weft.ok("batch", write(tmp_path / "in.jsonl", requests), "-o", path, "-m", tiny, *flags)
    bodies = [item["response"]["body"] for item in results(path)]
    assert [body["usage"]["completion_tokens"] for body in bodies] == [7, 3, 7, 4]
    alternatives = [len(body["choices"][0]["logprobs"]["top_logprobs"][0]) for body in bodies[:2]]
    assert alternatives == [2, 1] and bodies[0]["model"] == "mine"
    assert len(bodies[2]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert bodies[3]["choices"][0]["logprobs"] is None


def test_requests_choose_their_adapter(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    first = write_tiny_adapter(tmp_path / "first", tiny, 1)
    second = write_tiny_adapter(tmp_path / "second", tiny, 2)
    names = {"mine": ("--adapter", first), "other": ("--adapter", second), tiny.name: ()}
    run = ("generate", "-m", tiny, "-p", "The loom", "-n", "9", "--temp", "0", "--ignore-eos", "-q", "--json")
    told = {name: json.loads(weft.ok(*run, *flags))["text"] for name, flags in names.items()}
    assert len(set(told.values())) == 3
    body = {"prompt": "The loom", "max_tokens": 9}
    requests = [request(f"{n}", model=name, **body) for n, name in enumerate([*names] * 3)]
    path, lines = tmp_path / "out.jsonl", write(tmp_path / "in.jsonl", [*requests, request("plain", **body)])
    batch = ("batch", lines, "-o", path, "-m", tiny)
    named = ("--adapter", f"mine={first}", "--adapter", f"other={second}")
    weft.ok(*batch, *named)
    assert [text for _, text in texts(path)] == [told[name] for name in [*names] * 3] + [told[tiny.name]]
    assert "--adapter" in weft.fails(1, *batch)
    assert "one --adapter" in weft.fails(2, *batch, "--adapter", first, "--adapter", second)
    weft.ok(*batch, *named[:2], "--adapter", second, "--restart")
    kept = {item["custom_id"]: item["response"] for item in results(path)}
    assert kept["plain"]["body"]["choices"][0]["text"] == told["other"], "the one without a name"
    assert kept["1"]["status_code"] == 404


def test_a_table_with_a_template(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    path, table = tmp_path / "out.jsonl", tmp_path / "in.csv"
    table.write_text("id,text\nx,loom\ny,thread\n")
    flags = ("--temp", "0", "--ignore-eos", "-n", "6", "--id-column", "id")
    weft.ok("batch", table, "-o", path, "-m", tiny, "--template", "Sum up: {text}", "--system", "s", *flags)
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "Sum up: loom"}]
    chat = write(
        tmp_path / "chat.jsonl", [request("x", "/v1/chat/completions", messages=messages, max_tokens=6)]
    )
    weft.ok("batch", chat, "-o", tmp_path / "chat.out", "-m", tiny)
    found, (same,) = results(path), results(tmp_path / "chat.out")
    assert [item["custom_id"] for item in found] == ["x", "y"]
    assert found[0]["response"]["body"]["choices"] == same["response"]["body"]["choices"]
    weft.ok("batch", table, "-o", tmp_path / "raw", "-m", tiny, "--column", "text", "--raw", *flags)
    run = ("generate", "-m", tiny, "-p", "loom", "-n", "6", "--temp", "0", "--ignore-eos", "--json", "-q")
    assert texts(tmp_path / "raw")[0] == ("x", json.loads(weft.ok(*run))["text"])


def test_a_bad_request_is_an_error_in_its_result(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    requests = [
        request("good", prompt="x", max_tokens=2),
        "not JSON",
        request("field", prompt="x", beams=3),
        request("value", prompt="x", temperature=-1),
        request("stream", prompt="x", stream=True),
        request("model", prompt="x", model="gpt-4o"),
        request("long", prompt="x" * (1 << 16)),
        request("empty", prompt=""),
        request("good", prompt="y"),
        request("url", "/v1/moderations", input="x"),
        request("last", prompt="x", max_tokens=2),
    ]
    path = tmp_path / "out.jsonl"
    done = weft("batch", write(tmp_path / "in.jsonl", requests), "-o", path, "-m", tiny, "-q")
    assert done.returncode == 0 and "9 of those written now are errors" in done.stderr
    found = results(path)
    assert len(found) == len(requests)
    for item in (found[0], found[-1]):
        assert item["response"]["status_code"] == 200 and item["error"] is None
    for item in (found[1], found[8], found[9]):
        assert item["response"] is None and "; " in item["error"]["message"]
    by_name = {item["custom_id"]: item["response"] for item in found[2:8]}
    statuses = {name: response["status_code"] for name, response in by_name.items()}
    assert statuses == dict.fromkeys(("field", "value", "stream", "long", "empty"), 400) | {"model": 404}
    params = {name: response["body"]["error"]["param"] for name, response in by_name.items()}
    assert params["field"] == "beams" and params["value"] == "temperature" and params["stream"] == "stream"


def start(weft: Weft, *arguments: str | Path) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command("batch", *arguments), env=weft.environment, **pipes)


def kill_until_done(weft: Weft, run: tuple[str | Path, ...], path: Path, total: int, seed: int) -> int:
    """Runs the batch and kills it at random moments until it comes to its end; how often it was killed."""
    draw, kills = random.Random(seed), 0
    while True:
        seen = path.stat().st_size if path.exists() else 0
        process = start(weft, *run)
        # Waits for a result to appear, then up to the time that some more take.
        while process.poll() is None and (not path.exists() or path.stat().st_size <= seen):
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            return kills
        kills += 1
        lines = path.read_bytes().split(b"\n")
        assert len(lines) - 1 <= total
        assert kills < 2 * total, "each run gets at least one result further"


def test_killed_and_run_again_it_goes_on(
    weft: Weft, tiny: Path, tmp_path: Path, expected: list[tuple[str, str]]
) -> None:
    path = tmp_path / "out.jsonl"
    run = (tmp_path / "in.jsonl", "-o", path, "-m", tiny, "--max-running", "4", "-q")
    kill_until_done(weft, run, path, 60, seed=1)
    weft.ok("batch", *run)
    assert texts(path) == expected


@pytest.mark.soak
def test_killed_many_times(weft: Weft, tiny: Path, tmp_path: Path, expected: list[tuple[str, str]]) -> None:
    kills = 0
    for seed in range(20):
        path = tmp_path / f"out{seed}.jsonl"
        run = (tmp_path / "in.jsonl", "-o", path, "-m", tiny, "--max-running", "2", "-q")
        kills += kill_until_done(weft, run, path, 60, seed)
        weft.ok("batch", *run)
        assert texts(path) == expected
    assert kills > 20


def test_a_torn_result_is_made_again(
    weft: Weft, tiny: Path, tmp_path: Path, expected: list[tuple[str, str]]
) -> None:
    path = tmp_path / "expected.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    weft.ok("batch", tmp_path / "in.jsonl", "-o", path, "-m", tiny)
    assert texts(path) == expected
    assert path.read_bytes()[: len(whole) // 3] == whole[: len(whole) // 3]
    assert "60 of 60" in weft("batch", tmp_path / "in.jsonl", "-o", path, "-m", tiny).stderr


def test_ctrl_c_keeps_what_has_come(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    requests = [*many(3), request("endless", prompt="x", max_tokens=60_000)]
    path = tmp_path / "out.jsonl"
    process = start(weft, write(tmp_path / "in.jsonl", requests), "-o", path, "-m", tiny)
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"3 of 4 results" in said and said.endswith(b"weft: interrupted\n")
    assert [name for name, _ in texts(path)] == ["r0", "r1", "r2"]


def test_two_at_once_are_refused(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    endless = write(tmp_path / "in.jsonl", [*many(1), request("endless", prompt="x", max_tokens=60_000)])
    process = start(weft, endless, "-o", path, "-m", tiny)
    try:
        while not path.exists() or not path.stat().st_size:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        assert "another weft batch" in weft.fails(1, "batch", endless, "-o", path, "-m", tiny)
        assert "another weft batch" in weft.fails(1, "batch", endless, "-o", path, "-m", tiny, "--restart")
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_changes_are_noticed(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    path, requests = tmp_path / "out.jsonl", write(tmp_path / "in.jsonl", many(3))
    run = ("batch", requests, "-o", path, "-m", tiny)
    weft.ok(*run, "--top-k", "5")
    kept = path.read_bytes()
    assert "--top-k none (was 5)" in weft.fails(1, *run)
    assert "--top-p 0.5 (was none)" in weft.fails(1, *run, "--top-k", "5", "--top-p", "0.5")
    assert "--quant" in weft.fails(1, *run, "--top-k", "5", "--quant", "q8")
    write(requests, many(4))
    weft.ok(*run, "--top-k", "5", "-t", "1")  # more requests at the end, another number of threads
    assert path.read_bytes().startswith(kept) and len(results(path)) == 4
    write(requests, many(6)[1:])
    assert "other content" in weft.fails(1, *run, "--top-k", "5")
    weft.ok(*run, "--restart")
    assert [name for name, _ in texts(path)] == [f"r{n}" for n in range(1, 6)]


def test_outputs_that_are_none(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    requests = write(tmp_path / "in.jsonl", many(1))
    assert "No such file" in weft.fails(1, "batch", requests, "-o", tmp_path / "no" / "out", "-m", tiny)
    assert "change -o" in weft.fails(2, "batch", requests, "-o", requests, "-m", tiny)
    assert "name a file" in weft.fails(1, "batch", requests, "-o", "/dev/null", "-m", tiny)
    assert "name the prompts" in weft.fails(2, "batch", requests, "-o", tmp_path / "x", "-m", tiny, "--raw")
    (tmp_path / "mine").write_text("of value")
    assert "--restart" in weft.fails(1, "batch", requests, "-o", tmp_path / "mine", "-m", tiny)
    assert (tmp_path / "mine").read_text() == "of value"
    assert "no model" in weft.fails(1, "batch", requests, "-o", tmp_path / "y", "-m", "no-such-model").lower()


def test_a_full_and_a_read_only_disk(
    weft: Weft, tiny: Path, tmp_path: Path, expected: list[tuple[str, str]]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size=12k weft '{disk}' && exec sh -c \"$0\""]
    if subprocess.run([*mount, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    batch = " ".join(
        f"'{part}'" for part in command("batch", tmp_path / "in.jsonl", "-o", disk / "out", "-m", tiny)
    )
    script = f"""
        {batch}; echo "full $?" >&2
        cp '{disk}/out' '{tmp_path}/part'
        mount -o remount,ro '{disk}'; {batch}; echo "read-only $?" >&2
        mount -o remount,rw,size=1m '{disk}'; {batch} -q; echo "room $?" >&2
        cp '{disk}/out' '{tmp_path}/whole'
    """
    done = subprocess.run([*mount, script], check=True, capture_output=True, env=weft.environment)
    said = done.stderr.decode()
    assert "No space left on device; make room" in said and "full 1" in said
    assert "Read-only file system" in said and "read-only 1" in said and "room 0" in said
    part = (tmp_path / "part").read_bytes()
    assert part.endswith(b"\n") and 0 < part.count(b"\n") < 60
    assert (tmp_path / "whole").read_bytes().startswith(part)
    assert texts(tmp_path / "whole") == expected


def test_a_bar_shows_how_far_it_is(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    requests = write(tmp_path / "in.jsonl", many(12))
    terminal = Terminal(weft, "batch", requests, "-o", tmp_path / "out", "-m", tiny)
    assert terminal.finish() == 0
    assert "12/12" in terminal.shown and "tokens/s" in terminal.shown
