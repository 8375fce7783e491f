"""Lines that a person types: edited and remembered by readline in a terminal, read as they are elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

_HISTORY_LENGTH = 1000
_BLOCK_MARK = '"""'


class LineInput:
    """Reads turns of a conversation from stdin.

    A turn is a line; a line that ends in a backslash goes on in the next, and lines between two lines of
    three quotation marks are one turn.

    `history` keeps the lines of a terminal for later programs; where it cannot be kept, nothing is said.
    """

    def __init__(self, prompt: str, continuation: str, history: Path) -> None:
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._prompt = prompt
        self._continuation = continuation
        if self.is_terminal:
            _use_history(history)
        else:
            # Bytes that are not UTF-8 are no reason to end; surrogates would be.
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]

    def turns(self) -> Iterator[str]:
        """The turns up to the end of stdin, blanks around them taken off; empty ones are left out.

        Ctrl-C at the prompt gives up the line, and comes as an empty turn.
        """
        while True:
            try:
                text = self._turn()
            except EOFError:
                return
            except KeyboardInterrupt:
                print()
                yield ""
                continue
            if text:
                yield text

    def _turn(self) -> str:
        line = self._line(self._prompt)
        if line.strip().startswith(_BLOCK_MARK):
            return self._block(line.strip().removeprefix(_BLOCK_MARK))
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._rest())
        return "\n".join(lines).strip()

    def _block(self, line: str) -> str:
        """Lines up to one that ends in three quotation marks; `line` is what came after the first ones."""
        lines = []
        while not line.rstrip().endswith(_BLOCK_MARK):
            lines.append(line)
            try:
                line = self._line(self._continuation)
            except EOFError:
                line = _BLOCK_MARK
        lines.append(line.rstrip().removesuffix(_BLOCK_MARK))
        return "\n".join(lines).strip()

    def _rest(self) -> str:
        try:
            return self._line(self._continuation)
        except EOFError:
            return ""

    def _line(self, prompt: str) -> str:
        return input(prompt) if self.is_terminal else _piped_line()


def _piped_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _use_history(history: Path) -> None:
    """Lets `input` edit lines and remember them in the file `history`, where the interpreter has readline."""
    try:
        import atexit
        import readline
    except ImportError:
        return
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(_HISTORY_LENGTH)

    def keep() -> None:
        with contextlib.suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)
            history.chmod(0o600)  # what people say to a model is theirs

    atexit.register(keep)
