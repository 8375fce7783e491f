"""weft chat: one message, lines of a pipe, and a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.run_weft import Terminal, Weft
from tests.support.tiny_adapter import write_tiny_adapter
from tests.support.tiny_folder import write_tiny_folder

CTRL_C, CTRL_D, UP = b"\x03", b"\x04", b"\x1b[A"
SHORT = ("-n", "6", "--temp", "0", "--ignore-eos", "-c", "1024")


@contextmanager
def terminal(weft: Weft, *arguments: str | Path) -> Iterator[Terminal]:
    opened = Terminal(weft, "chat", *arguments)
    try:
        opened.wait_for("> ")
        yield opened
    except BaseException:
        opened.kill()
        raise


def test_one_message(weft: Weft, tiny: Path) -> None:
    done = weft("chat", tiny, "--prompt", "hello", *SHORT)
    assert done.returncode == 0 and done.stdout.endswith("\n")
    assert "answer 6 tokens" in done.stderr
    assert weft.ok("chat", "-m", tiny, "-p", "hello", *SHORT, "-q") == done.stdout
    assert weft.ok("chat", "-p", "hello", *SHORT, env={"WEFT_MODEL": str(tiny)}) == done.stdout
    assert weft.ok("chat", tiny, "-p", "hello", *SHORT, "--system", "Be brief.") != done.stdout


def test_the_system_text_has_an_environment_twin(weft: Weft, tiny: Path) -> None:
    flag = weft.ok("chat", tiny, "-p", "hello", *SHORT, "--system", "Be brief.")
    assert weft.ok("chat", tiny, "-p", "hello", *SHORT, env={"WEFT_SYSTEM": "Be brief."}) == flag


def test_which_model(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    assert "Expected a model, got none" in weft.fails(2, "chat")
    assert "Expected one model" in weft.fails(2, "chat", tiny, "-m", "other")
    assert "did you mean" in weft.fails(1, "chat", "smolm2-135m-instruct")
    plain = write_tiny_folder(tmp_path / "plain", with_template=False)
    assert "chat template" in weft.fails(1, "chat", plain, "-p", "hello")


def test_lines_of_a_pipe_are_turns(weft: Weft, tiny: Path) -> None:
    chat = ("chat", tiny, *SHORT)
    first = weft("chat", tiny, *SHORT, stdin="hello\n")
    assert first.returncode == 0 and first.stderr.count("prompt ") == 1
    two = weft(*chat, stdin="hello\n\nhello\n")
    assert two.stdout.startswith(first.stdout) and two.stderr.count("prompt ") == 2
    cleared = weft.ok(*chat, stdin="hello\n/clear\nhello")
    assert cleared == first.stdout + "[cleared]\n" + first.stdout
    assert two.stdout != first.stdout * 2, "the second turn sees the first"
    with_system = weft.ok(*chat, stdin="/system Be brief.\nhello\n/exit\nhello\n")
    told = weft.ok("chat", tiny, "-p", "hello", *SHORT, "--system", "Be brief.")
    assert with_system.endswith("\n" + told)


def test_a_message_of_several_lines(weft: Weft, tiny: Path) -> None:
    chat = ("chat", tiny, *SHORT)
    expected = weft.ok("chat", tiny, "-p", "one\ntwo", *SHORT)
    assert weft.ok(*chat, stdin="one\\\ntwo\n") == expected
    assert weft.ok(*chat, stdin='"""\none\ntwo\n"""\n') == expected
    assert weft.ok(*chat, stdin='"""one\ntwo"""\n') == expected
    assert weft.ok(*chat, stdin='"""one\ntwo') == expected, "the end of stdin ends a message"


def test_commands_that_are_none(weft: Weft, tiny: Path) -> None:
    done = weft("chat", tiny, *SHORT, "-q", stdin="/nonsense\n/help\n/system\n/usr/bin is a path\n")
    assert done.returncode == 0
    assert "got /nonsense" in done.stderr
    assert "/clear" in done.stdout and "[no system text]" in done.stdout
    assert done.stdout.count("\n") > 7, "a path is a message, and is answered"


def test_a_conversation_changes_its_adapter(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    paths = {name: write_tiny_adapter(tmp_path / name, tiny, seed) for seed, name in enumerate("ab", 1)}
    one = ("-p", "hello", *SHORT, "-q")
    plain, first, second = (weft.ok("chat", tiny, *flags, *one) for flags in (
        (), ("--adapter", paths["a"]), ("--adapter", paths["b"])))  # fmt: skip
    assert len({plain, first, second}) == 3
    both = ("chat", tiny, *SHORT, "-q", "--adapter", f"a={paths['a']}", "--adapter", f"b={paths['b']}")
    assert weft.ok(*both, "-p", "hello") == plain
    assert weft.ok(*both, "-p", "hello", "--use-adapter", "b") == second
    turns = ["hello", "/clear", "/adapter a", "hello", "/clear", "/adapter b", "hello", "/adapter"]
    turns += ["/clear", "/adapter -", "hello"]
    told = weft.ok(*both, stdin="\n".join(turns)).replace("[cleared]\n", "")
    by = "[answers by {} from now on]\n"
    expected = [plain, by.format("a"), first, by.format("b"), second, "[adapters: a, *b]\n"]
    assert told == "".join([*expected, by.format("the model as it was loaded"), plain])
    done = weft(*both, stdin="/adapter c\nhello\n")
    assert "among a, b, got 'c'" in done.stderr and done.stdout == plain


def test_a_full_context_drops_the_oldest_turns(weft: Weft, tiny: Path) -> None:
    lines = "\n".join(["word " * 30] * 8)
    done = weft("chat", tiny, *SHORT, "-q", stdin=lines)
    assert done.returncode == 0 and "oldest messages were dropped" in done.stderr
    assert "shorten it" in weft.fails(1, "chat", tiny, *SHORT, "-q", stdin="x" * 2000)


def test_a_person_at_a_terminal(weft: Weft, tiny: Path) -> None:
    with terminal(weft, tiny, *SHORT) as shown:
        shown.type("hello")
        seen = shown.wait_for("answer 6 tokens")
        seen = shown.wait_for("> ", seen)
        shown.type("/clear")
        seen = shown.wait_for("[cleared]", seen)
        seen = shown.wait_for("> ", seen)
        shown.type("/help")
        seen = shown.wait_for("Ctrl-C stops an answer", seen)
        seen = shown.wait_for("> ", seen)
        shown.type("x" * 2000)  # longer than the context: said, not fatal
        seen = shown.wait_for("shorten it", seen)
        seen = shown.wait_for("> ", seen)
        shown.press(CTRL_D)
        assert shown.finish() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(weft: Weft, tiny: Path) -> None:
    with terminal(weft, tiny, "-n", "60000", "--ignore-eos", "--seed", "1") as shown:
        shown.type("hello")
        seen = shown.wait_for("hello\r\n")
        shown.wait_for_more(seen + 20)  # in the midst of the answer
        shown.press(CTRL_C)
        seen = shown.wait_for("cancelled", seen)
        seen = shown.wait_for("> ", seen)
        shown.press(b"half a line")
        seen = shown.wait_for("half a line", seen)
        seen = shown.press_until(CTRL_C, "> ", seen)
        shown.type("/exit")
        assert shown.finish() == 0
        assert "; length" not in shown.shown


def test_what_was_typed_is_remembered(lone_weft: Weft, tiny: Path) -> None:
    with terminal(lone_weft, tiny, *SHORT) as shown:
        shown.type("/system Answer in rhymes.")
        shown.wait_for("[system text set")
        shown.type("/exit")
        assert shown.finish() == 0
    history = Path(lone_weft.environment["WEFT_HOME"]) / "chat-history"
    assert "/system Answer in rhymes." in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    with terminal(lone_weft, tiny, *SHORT) as shown:
        shown.press(UP + UP)
        shown.wait_for("system Answer in rhymes.")
        shown.press(b"\r")
        shown.wait_for("> ", shown.wait_for("[system text set"))
        shown.press(CTRL_D)
        assert shown.finish() == 0
