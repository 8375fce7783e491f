"""The command itself: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import warnings
from typing import NoReturn, TextIO

import click

from weft import __version__
from weft.cli.streams import open_closed_streams, quiet_stdout
from weft.errors import WeftError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "generate": "Continue a prompt.",
    "chat": "Talk with a model.",
    "serve": "Answer over HTTP, with OpenAI's API.",
    "batch": "Answer a file of requests.",
    "train": "Train or fine-tune a model.",
    "eval": "Measure how well a model predicts text.",
    "predict": "Predict columns of numbers with a trained perceptron.",
    "plot": "Draw the course of a training run.",
    "fuse": "Join an adapter with its model.",
    "export": "Write a model in another format.",
    "pull": "Fetch a model.",
    "list": "Show the models at hand.",
    "rm": "Remove a model.",
    "info": "Show the machine, and the threads that weft would use.",
    "bench": "Measure this machine and a model on it.",
    "trace": "Summarize a timeline of threads.",
}


class _Commands(click.Group):
    """Subcommands that are imported when they are called: the others' imports cost nothing."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            context.fail(f"Expected a command, got {name!r}{_did_you_mean(name)}; `weft --help` lists them.")
        module = importlib.import_module(f"weft.cli.{name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every flag has an environment twin: --top-p is WEFT_TOP_P. WEFT_DEBUG=1 shows tracebacks.",
)
@click.version_option(__version__, prog_name="weft", message="%(prog)s %(version)s")
def weft() -> None:
    """Run language models on the CPU cores you have."""


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    # weft computes on its own pool; NumPy's library would start threads that only make the start longer.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    warnings.showwarning = _show_warning
    open_closed_streams()
    try:
        code = weft.main(prog_name="weft", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        if os.environ.get("WEFT_DEBUG") == "1" and not isinstance(error, SystemExit):
            raise
        code = _report(error)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # What is still held (pools, mapped files) goes with the process, at once.
    quiet_stdout()
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Says on stderr what went wrong, in one line; gives the exit code."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else EXIT_FAILURE
        case click.exceptions.Exit():
            return error.exit_code
        case KeyboardInterrupt() | click.Abort():
            _say("interrupted")
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            return EXIT_FAILURE
        case click.UsageError():
            _say(error.format_message() + _help_hint(error))
            return EXIT_USAGE
        case click.ClickException():
            _say(error.format_message())
            return EXIT_FAILURE
        case WeftError():
            _say(str(error))
            return EXIT_USAGE if _is_usage(error) else EXIT_FAILURE
        case MemoryError():
            _say("Expected more memory than is left; lower -c or --max-rows, or take a smaller model.")
            return EXIT_FAILURE
        case OSError() if error.strerror:
            place = "the output" if error.filename is None else error.filename
            _say(f"{place}: {error.strerror}{_way_out(error)}")
            return EXIT_FAILURE
        case _:
            _say(f"{type(error).__name__}: {error}; this is a fault of weft (WEFT_DEBUG=1 shows where)")
            return EXIT_FAILURE


def _did_you_mean(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    return f", did you mean {close[0]}?" if close else ""


def _way_out(error: OSError) -> str:
    """What to do about an error of the system, where it is not in its name."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "; make room, or write elsewhere"
        case errno.ENOENT | errno.ENOTDIR:
            return "; check the path"
        case errno.EBADF:
            return "; open it, or write to a file"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "; write elsewhere, or allow it"
    return ""


def _help_hint(error: click.UsageError) -> str:
    """Which help tells more, where the message does not say so itself."""
    if error.ctx is None or "--help" in error.message:
        return ""
    return f" (see {error.ctx.command_path} --help)"


def _is_usage(error: BaseException) -> bool:
    """A setting out of range is as wrong as a flag that does not exist."""
    from weft.errors import ConfigError

    return isinstance(error, ConfigError)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print("weft: " + " ".join(text.split()), file=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a line; where in the code it was raised says nothing to who runs a command."""
    _say(str(message))
