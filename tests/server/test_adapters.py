"""Adapters over HTTP: listed, chosen by the request's model, and answering as `weft generate` does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cli.run_weft import Weft
from tests.server.running_server import running
from tests.support.tiny_adapter import write_tiny_adapter

BODY = {"prompt": "The loom", "max_tokens": 10, "temperature": 0.8, "seed": 3, "ignore_eos": True}


def test_requests_choose_their_adapter(tiny: Path, home: Path, tmp_path: Path) -> None:
    first = write_tiny_adapter(tmp_path / "first", tiny, 1)
    second = write_tiny_adapter(tmp_path / "run" / "final", tiny, 2)
    weft = Weft(home)
    run = ("generate", "-m", tiny, "-p", "The loom", "-n", "10", "--temp", "0.8", "--seed", "3")
    run = (*run, "--ignore-eos", "--json", "-q")
    expected = {
        name: json.loads(weft.ok(*run, *flags))["text"]
        for name, flags in {
            tiny.name: (),
            "mine": ("--adapter", first),
            "run": ("--adapter", tmp_path / "run"),
        }.items()
    }
    assert len(set(expected.values())) == 3
    flags = ("--adapter", f"mine={first}", "--adapter", second.parent)
    with running(tiny, home, *flags) as server:
        listed = server.ok("/v1/models")["data"]
        assert [item["id"] for item in listed] == [tiny.name, "mine", "run"]
        assert [item.get("parent") for item in listed] == [None, tiny.name, tiny.name]
        assert server.ok("/v1/models/mine")["id"] == "mine"

        def ask(name: str) -> tuple[str, str]:
            answer = server.ok("/v1/completions", BODY | {"model": name})
            assert answer["model"] == name
            return name, answer["choices"][0]["text"]

        with ThreadPoolExecutor(12) as clients:
            for name, text in clients.map(ask, [*expected] * 8):
                assert text == expected[name]
        chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}
        chats = [server.ok("/v1/chat/completions", chat | {"model": name}) for name in expected]
        assert len({item["choices"][0]["message"]["content"] for item in chats}) == 3
        scored = {"prompt": "The loom", "max_tokens": 0, "echo": True, "logprobs": 0}
        scores = [server.ok("/v1/completions", scored | {"model": name}) for name in (*expected, "mine")]
        sums = [sum(item["choices"][0]["logprobs"]["token_logprobs"][1:]) for item in scores]
        assert len(set(sums)) == 3 and sums[1] == sums[3]
        error = server.refused(404, "/v1/completions", BODY | {"model": "other"})
        assert error["code"] == "model_not_found" and "mine, run" in error["message"]
        assert server.metric('weft_answers_total{model="mine"}') >= 10


def test_a_bad_adapter_ends_the_start_in_a_line(tiny: Path, home: Path, tmp_path: Path) -> None:
    weft = Weft(home)
    good = write_tiny_adapter(tmp_path / "good", tiny, 1)
    run = ("serve", tiny, "--port", "0", "--adapter")
    assert "expected an adapter" in weft.fails(1, *run, f"x={tmp_path}")
    assert "taken" in weft.fails(2, *run, f"x={good}", "--adapter", f"x={good}")
    assert "choose another" in weft.fails(2, *run, f"{tiny.name}={good}")
    (good / "adapter_model.safetensors").write_bytes(b"\0" * 20)
    weft.fails(1, *run, good)
