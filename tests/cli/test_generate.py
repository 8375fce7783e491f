"""weft generate: prompts from everywhere, every flag and its environment twin, interruption."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.cli.run_weft import Terminal, Weft, command
from tests.support.tiny_adapter import write_tiny_adapter

GREEDY = ("--temp", "0", "--ignore-eos")


def answer(weft: Weft, tiny: Path, *arguments: str, **options: object) -> dict:
    text = weft.ok("generate", "-m", tiny, "-p", "The loom", "--json", "-q", *arguments, **options)
    return json.loads(text)


def test_the_prompt_comes_from_the_flag_a_file_or_stdin(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("The loom\n")
    run = ("generate", "-m", tiny, "-n", "12", *GREEDY)
    expected = weft.ok(*run, "-p", "The loom")
    assert weft.ok(*run, stdin="The loom\n") == expected
    assert weft.ok(*run, "-f", tmp_path / "prompt") == expected
    assert weft.ok(*run, "-f", "-", stdin="The loom") == expected
    assert weft.ok(*run, "-f", tmp_path / "prompt", env={"WEFT_PROMPT": "other"}) == expected
    assert weft.ok(*run, stdin="The looms") != expected
    windows = b"\xef\xbb\xbfThe loom\r\nThe loom\r\n"
    (tmp_path / "windows").write_bytes(windows)
    expected = weft.ok(*run, "-p", "The loom\nThe loom")
    assert weft.ok(*run, stdin=windows) == weft.ok(*run, "-f", tmp_path / "windows") == expected


def test_prompts_that_are_none(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    run = ("generate", "-m", tiny)
    assert "-p and -f" in weft.fails(2, *run, "-p", "x", "-f", tmp_path / "bytes")
    assert "UTF-8" in weft.fails(1, *run, "-f", tmp_path / "bytes")
    assert "UTF-8" in weft.fails(1, *run, stdin=b"\xff\xfe")
    assert "No such file" in weft.fails(2, *run, "-f", tmp_path / "none")
    shown = Terminal(weft, *run)
    assert shown.finish() == 2
    assert "pass -p TEXT" in shown.shown


def test_the_text_ends_with_a_line_and_statistics_go_to_stderr(weft: Weft, tiny: Path) -> None:
    done = weft("generate", "-m", tiny, "-p", "x", "-n", "5", *GREEDY)
    assert done.stdout.endswith("\n") and done.returncode == 0
    assert "answer 5 tokens" in done.stderr and "2 threads" in done.stderr and "length" in done.stderr
    assert weft("generate", "-m", tiny, "-p", "x", "-n", "5", *GREEDY, "-q").stderr == ""


def test_a_seed_draws_the_same_again(weft: Weft, tiny: Path) -> None:
    first = answer(weft, tiny, "-n", "24", "--temp", "2", "--top-k", "0", "--top-p", "1", "--min-p", "0")
    seed = str(first["seed"])
    drawn = ("-n", "24", "--temp", "2", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed")
    again = answer(weft, tiny, *drawn, seed)
    assert again["token_ids"] == first["token_ids"]
    assert answer(weft, tiny, *drawn, seed, "-t", "1")["token_ids"] == first["token_ids"]
    assert answer(weft, tiny, *drawn, str(int(seed) + 1))["token_ids"] != first["token_ids"]


def test_json_tells_everything(weft: Weft, tiny: Path) -> None:
    told = answer(weft, tiny, "-n", "6", *GREEDY, "--logprobs", "3")
    assert told["finish_reason"] == "length" and told["prompt_tokens"] == 8
    assert len(told["token_ids"]) == len(told["logprobs"]) == len(told["top_logprobs"]) == 6
    assert all(len(alternatives) == 3 for alternatives in told["top_logprobs"])
    assert told["statistics"]["answer_tokens"] == 6


def test_logprobs_are_listed_on_stderr(weft: Weft, tiny: Path) -> None:
    done = weft("generate", "-m", tiny, "-p", "x", "-n", "4", *GREEDY, "--logprobs", "2", "-q")
    assert len(done.stderr.splitlines()) == 4


def test_stop_ends_before_the_text(weft: Weft, tiny: Path) -> None:
    tokens = answer(weft, tiny, "-n", "40", *GREEDY)["token_ids"]
    place = next(i for i in range(3, 39) if 32 < tokens[i] < 127 and 32 < tokens[i + 1] < 127)
    stop = bytes(tokens[place : place + 2]).decode()
    stopped = answer(weft, tiny, "-n", "40", *GREEDY, "--stop", "no such text", "--stop", stop)
    assert stopped["finish_reason"] == "stop" and stopped["stop_reason"] == stop
    assert stop not in stopped["text"] and len(stopped["token_ids"]) <= place + 2


def test_flags_have_environment_twins(weft: Weft, tiny: Path) -> None:
    flags = answer(weft, tiny, "-n", "20", "--temp", "1.5", "--top-k", "9", "--seed", "5", "--stop", "a b")
    twins = {
        "WEFT_MAX_TOKENS": "20",
        "WEFT_TEMPERATURE": "1.5",
        "WEFT_TOP_K": "9",
        "WEFT_SEED": "5",
        "WEFT_STOP": "a b",
        "WEFT_MODEL": str(tiny),
        "WEFT_PROMPT": "The loom",
        "WEFT_JSON": "1",
        "WEFT_QUIET": "1",
    }
    told = json.loads(weft.ok("generate", env=twins))
    assert told["token_ids"] == flags["token_ids"] and told["seed"] == 5
    told = json.loads(weft.ok("generate", "-n", "2", env=twins))
    assert len(told["token_ids"]) == 2, "the flag wins"
    assert "WEFT_TOP_K" in weft.fails(2, "generate", env={**twins, "WEFT_TOP_K": "many"})


def test_a_stop_text_in_the_environment_is_one_text(weft: Weft, tiny: Path) -> None:
    alone = answer(weft, tiny, "-n", "60", *GREEDY)
    letter = next(chr(token) for token in alone["token_ids"] if 32 < token < 127)
    both = answer(weft, tiny, "-n", "60", *GREEDY, env={"WEFT_STOP": f"{letter} never this"})
    assert both["token_ids"] == alone["token_ids"]


def test_requantized_weights_are_kept_apart(weft: Weft, tiny: Path) -> None:
    # The same flags again give the same answer, from the packed weights of the first start.
    for quant in ("f32", "bf16", "q8", "int8"):
        flags = ("-n", "8", *GREEDY, "--quant", quant, "--logprobs", "0")
        assert answer(weft, tiny, *flags)["logprobs"] == answer(weft, tiny, *flags)["logprobs"]


def test_one_of_several_adapters_answers(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    paths = {name: write_tiny_adapter(tmp_path / name, tiny, seed) for seed, name in enumerate("ab", 1)}
    alone = {name: answer(weft, tiny, *GREEDY, "--adapter", path)["text"] for name, path in paths.items()}
    plain = answer(weft, tiny, *GREEDY)["text"]
    assert len({plain, *alone.values()}) == 3
    named = [text for name, path in paths.items() for text in ("--adapter", f"{name}={path}")]
    assert answer(weft, tiny, *GREEDY, *named)["text"] == plain, "no name, no adapter"
    for name in paths:
        assert answer(weft, tiny, *GREEDY, *named, "--use-adapter", name)["text"] == alone[name]
    mixed = (*GREEDY, *named[:2], "--adapter", paths["b"])
    assert answer(weft, tiny, *mixed)["text"] == alone["b"], "the one without a name"
    assert answer(weft, tiny, *mixed, "--use-adapter", "a")["text"] == alone["a"]
    run = ("generate", "-m", tiny, "-p", "x", *named)
    assert "got 'c'" in weft.fails(2, *run, "--use-adapter", "c")
    assert "of the name 'a'" in weft.fails(2, *run, "--adapter", f"a={paths['b']}")
    assert "without a name" in weft.fails(2, *run, "--adapter", paths["a"], "--adapter", paths["b"])


def test_ctrl_c_keeps_what_has_come(weft: Weft, tiny: Path) -> None:
    arguments = command("generate", "-m", tiny, "-p", "x", "-n", "60000", "--ignore-eos", "--seed", "1")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, env=weft.environment, **pipes) as running:
        first = running.stdout.read(1)
        running.send_signal(signal.SIGINT)
        text, said = first + running.stdout.read(), running.stderr.read().decode()
        assert running.wait() == 130
    assert text.endswith(b"\n") and "cancelled" in said and said.endswith("weft: interrupted\n")


def test_answers_of_a_schema_an_expression_or_a_grammar(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "integer", "minimum": 7, "maximum": 99}')
    (tmp_path / "grammar").write_text('root ::= "ja" | "nein"')
    for seed in ("1", "2"):
        number = answer(weft, tiny, "--json-schema", tmp_path / "schema.json", "--seed", seed)["text"]
        assert json.loads(number) in range(7, 100)
        assert answer(weft, tiny, "--grammar", tmp_path / "grammar", "--seed", seed)["text"] in ("ja", "nein")
        assert answer(weft, tiny, "--regex", "[ab] c{2}", "--seed", seed)["text"] in ("a cc", "b cc")
    assert answer(weft, tiny, env={"WEFT_REGEX": "yes|no"})["text"] in ("yes", "no")


def test_what_an_answer_cannot_be_held_to_is_wrong_usage(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"not": {"type": "string"}}')
    (tmp_path / "grammar").write_text("start: nothing")
    (tmp_path / "bytes").write_bytes(b"\xff")
    run = ("generate", "-m", tiny, "-p", "x")
    assert '"not"' in weft.fails(2, *run, "--json-schema", tmp_path / "schema.json")
    assert "nothing" in weft.fails(2, *run, "--grammar", tmp_path / "grammar")
    assert "unclosed group" in weft.fails(2, *run, "--regex", "a(")
    assert "one of" in weft.fails(2, *run, "--regex", "a", "--grammar", tmp_path / "grammar")
    for name in ("bytes", "none"):
        assert "file of text" in weft.fails(2, *run, "--json-schema", tmp_path / name)
