"""The real `weft` command in tests: in a process of its own, its streams pipes or a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_TIMEOUT_S = 300.0  # a busy machine decides no test
_PATIENCE_S = 2.0


def environment(home: Path, **extra: str) -> dict[str, str]:
    """This process's environment without settings of weft, its cache in `home`."""
    unwanted = ("WEFT_", "PYTHONDONTWRITEBYTECODE", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "WEFT_HOME": str(home), "WEFT_THREADS": "2", **extra}


class Weft:
    """Runs `weft` with the cache in `home`."""

    def __init__(self, home: Path, **extra: str) -> None:
        self.environment = environment(home, **extra)

    def __call__(
        self, *arguments: str | Path, stdin: str | bytes = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; stdout, stderr and the exit code are in the result."""
        done = subprocess.run(
            command(*arguments),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**self.environment, **(env or {})},
            timeout=_TIMEOUT_S,
            check=False,
        )
        texts = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def ok(self, *arguments: str | Path, **options: object) -> str:
        """Runs it, expects success, and gives what it wrote to stdout."""
        done = self(*arguments, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, code: int, *arguments: str | Path, **options: object) -> str:
        """Runs it, expects this exit code, nothing on stdout and one line on stderr; gives that line."""
        done = self(*arguments, **options)  # type: ignore[arg-type]
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("weft: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr


def command(*arguments: str | Path) -> list[str]:
    """The command line of `weft`."""
    return [sys.executable, "-m", "weft", *map(str, arguments)]


class Terminal:
    """`weft` in a terminal of its own: what is typed goes in, what is shown is kept in `shown`."""

    def __init__(self, weft: Weft, *arguments: str | Path) -> None:
        self.shown = ""
        self._pid, self._screen = pty.fork()
        if self._pid == 0:
            env = {**weft.environment, "TERM": "xterm", "COLUMNS": "120", "INPUTRC": os.devnull}
            os.execve(sys.executable, command(*arguments), env)

    def type(self, text: str) -> None:
        """Types `text` and the Enter key."""
        os.write(self._screen, text.encode() + b"\r")

    def press(self, key: bytes) -> None:
        """Presses one key, such as b"\\x03" for Ctrl-C."""
        os.write(self._screen, key)

    def wait_for(self, text: str, seen: int = 0) -> int:
        """Waits until `text` is shown after the first `seen` characters; the place behind it."""
        end = time.monotonic() + _TIMEOUT_S
        while text not in self.shown[seen:]:
            assert self._read(end), f"expected {text!r}, the terminal shows {self.shown!r}"
        return self.shown.index(text, seen) + len(text)

    def press_until(self, key: bytes, text: str, seen: int) -> int:
        """Presses `key`, as a person does, again while `text` does not show; the place behind it.

        The interpreter may lose a signal that comes just before it begins to wait for a key.
        """
        end = time.monotonic() + _TIMEOUT_S
        while text not in self.shown[seen:]:
            assert time.monotonic() < end, f"expected {text!r}, the terminal shows {self.shown!r}"
            self.press(key)
            patience = time.monotonic() + _PATIENCE_S
            while text not in self.shown[seen:] and time.monotonic() < patience:
                if select.select([self._screen], [], [], _PATIENCE_S)[0]:
                    assert self._read(end), f"expected {text!r}, the terminal shows {self.shown!r}"
        return self.shown.index(text, seen) + len(text)

    def wait_for_more(self, length: int) -> None:
        """Waits until at least `length` characters are shown."""
        end = time.monotonic() + _TIMEOUT_S
        while len(self.shown) < length:
            assert self._read(end), f"expected more, the terminal shows {self.shown!r}"

    def finish(self) -> int:
        """Waits for the end of the program; its exit code."""
        end = time.monotonic() + _TIMEOUT_S
        while self._read(end):
            pass
        _, status = os.waitpid(self._pid, 0)
        os.close(self._screen)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """Ends the program where a test has failed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"nothing came any more; the terminal shows {self.shown!r}"
        try:
            content = os.read(self._screen, 1 << 16)
        except OSError:  # the program has left the terminal
            return False
        self.shown += content.decode(errors="replace")
        return bool(content)
