"""What all commands share: help, exit codes, one line an error, no tracebacks, a quick start."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run_weft import Weft, command
from weft.cli.main import COMMANDS

HEAVY = {"numpy", "tokenizers", "jinja2", "rich", "torch", "ssl", "http.client", "urllib.request"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(weft: Weft, name: str) -> None:
    assert weft.ok(name, "-h").startswith(f"Usage: weft {name}")


def test_help_lists_the_commands(weft: Weft) -> None:
    text = weft.ok("--help")
    assert all(name in text for name in COMMANDS)
    assert "WEFT_TOP_P" in text


def test_version(weft: Weft) -> None:
    import weft as package

    assert weft.ok("--version") == f"weft {package.__version__}\n"


def test_wrong_usage_is_one_line_and_exit_code_2(weft: Weft, tiny: Path) -> None:
    assert "did you mean generate?" in weft.fails(2, "genrate")
    assert "weft pull --help" in weft.fails(2, "pull")
    assert "--nonsense" in weft.fails(2, "list", "--nonsense")
    assert "-m" in weft.fails(2, "generate", "-p", "x")
    assert "temperature" in weft.fails(2, "generate", "-m", tiny, "-p", "x", "--temp", "-1")
    assert "max_tokens" in weft.fails(2, "generate", "-m", tiny, "-p", "x", "-n", "0")
    assert "threads" in weft.fails(2, "generate", "-m", tiny, "-p", "x", "-t", "0")
    assert "one team a thread" in weft.fails(2, "generate", "-m", tiny, "-p", "x", "-t", "1", "--teams", "2")
    assert "WEFT_ISA" in weft.fails(2, "info", env={"WEFT_ISA": "sse"})


def test_failures_are_one_line_and_exit_code_1(weft: Weft, tiny: Path, tmp_path: Path) -> None:
    close = weft.fails(1, "generate", "-m", "smolm2-135m-instruct", "-p", "x")
    assert "did you mean smollm2-135m-instruct?" in close
    assert "does not exist" in weft.fails(1, "generate", "-m", "./no.gguf", "-p", "x")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(20))
    weft.fails(1, "generate", "-m", tmp_path / "bad.gguf", "-p", "x")
    assert "at least one token" in weft.fails(1, "generate", "-m", tiny, "-p", "")
    assert "context" in weft.fails(1, "generate", "-m", tiny, "-p", "x" * 2000, "-c", "1024")
    assert "No such file" in weft.fails(
        1, "generate", "-m", tiny, "-p", "x", "--trace", tmp_path / "no/t.json"
    )


def test_debug_shows_the_traceback(weft: Weft) -> None:
    done = weft("rm", "nothing", env={"WEFT_DEBUG": "1"})
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_reader_that_leaves_is_no_error(weft: Weft, tiny: Path) -> None:
    arguments = command("generate", "-m", tiny, "-p", "x", "-n", "60000", "--ignore-eos")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, env=weft.environment, **pipes) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 1


@pytest.mark.parametrize(("closed", "code"), [("<&-", 0), ("2>&-", 0), (">&-", 1)])
def test_streams_that_are_closed(weft: Weft, tiny: Path, closed: str, code: int) -> None:
    arguments = shlex.join(command("generate", "-m", tiny, "-p", "x", "-n", "4", "--ignore-eos"))
    shell = ["sh", "-c", f"{arguments} {closed}"]
    done = subprocess.run(shell, env=weft.environment, capture_output=True, text=True, errors="replace")
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code == 0) and "tokens/s" not in done.stdout
    if code:
        assert done.stderr.endswith("weft: the output: Bad file descriptor; open it, or write to a file\n")
        assert "Traceback" not in done.stderr


def test_help_and_version_load_nothing_heavy() -> None:
    for arguments in (["--help"], ["generate", "--help"], ["chat", "-h"], ["bench", "-h"], ["trace", "-h"]):
        code = (
            "import sys; from weft.cli.main import main\n"
            f"sys.argv = ['weft', *{arguments!r}]\n"
            "try: main()\n"
            f"except SystemExit: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n", arguments


def test_import_weft_loads_nothing_heavy() -> None:
    code = f"import sys, weft; print(sorted(({HEAVY!r} | {{'click'}}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_generating_loads_no_network_and_no_tables(tiny: Path, weft: Weft) -> None:
    names = HEAVY - {"numpy", "tokenizers"}
    code = (
        "import sys; from weft.cli.main import main\n"
        f"sys.argv = ['weft', 'generate', '-m', {str(tiny)!r}, '-p', 'x', '-n', '1', '-q']\n"
        "try: main()\n"
        f"except SystemExit: print(sorted({names!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    arguments = [sys.executable, "-c", code]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=weft.environment)
    assert done.stderr == "[]\n"
