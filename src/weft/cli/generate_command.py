"""weft generate: continues a prompt, streamed to stdout; statistics go to stderr."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from weft.cli.adapter_flags import adapter_flags, check_use, default_and_named, use_adapter_flag
from weft.cli.options import engine_flags, flag, given, model_flag, sampling_flags
from weft.config import EngineConfig
from weft.serve.sampling import SamplingParams

if TYPE_CHECKING:
    from weft.cli.output import Speedometer
    from weft.tasks.completion import Completion
    from weft.tasks.generate import Stream
    from weft.tasks.model import Model


@click.command("generate")
@model_flag()
@adapter_flags
@use_adapter_flag
@flag("-p", "--prompt", help="The prompt; by default what comes on stdin.")
@flag(
    "-f",
    "--file",
    "prompt_file",
    type=click.File("rb"),
    help="Read the prompt from a file; - is stdin.",
)
@sampling_flags()
@engine_flags
@flag("--json", "as_json", is_flag=True, help="Print one JSON object, at the end, in place of the text.")
@flag(
    "--trace",
    "trace_path",
    type=click.Path(dir_okay=False),
    help="Write a timeline of the threads to this file.",
)
@flag("-q", "--quiet", is_flag=True, help="No statistics.")
def command(model: str, **values: Any) -> None:
    """Continue a prompt. The text is streamed to stdout, statistics go to stderr.

    The prompt comes from -p, from a file, or from stdin.
    """
    settings = given(SamplingParams, values)
    engine = given(EngineConfig, values)
    SamplingParams(**settings)  # wrong settings are said before a model is loaded
    default, named = default_and_named(values["adapters"])
    check_use(values["adapter"], named)
    engine |= {"adapter": default, "adapters": named}
    prompt = read_prompt(values["prompt"], values["prompt_file"])
    _generate(model, prompt, engine, settings, values)


def read_prompt(prompt: str | None, file: BinaryIO | None) -> str:
    """The prompt from the flag, the file or stdin; of the latter two without a mark of UTF-8 at its start and
    a line end at its end, and with line ends as models know them, whatever system wrote the text.

    Raises a usage error when there is none, or two.
    """
    if prompt is not None and file is not None:
        prompt, file = _nearer(prompt, file)
    if prompt is not None:
        return prompt
    if file is None and sys.stdin.isatty():
        raise click.UsageError("Expected a prompt, got none; pass -p TEXT, -f FILE, or pipe it to stdin.")
    try:
        text = (file or sys.stdin.buffer).read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.ClickException(
            f"Expected a prompt in UTF-8, got other bytes ({error}); convert it."
        ) from error
    return text.replace("\r\n", "\n").removesuffix("\n")


def _nearer(prompt: str, file: BinaryIO) -> tuple[str | None, BinaryIO | None]:
    """Of a flag and the environment twin of the other the flag."""
    context = click.get_current_context()
    sources = [context.get_parameter_source(name) for name in ("prompt", "prompt_file")]
    match [source is click.core.ParameterSource.COMMANDLINE for source in sources]:
        case [True, False]:
            return prompt, None
        case [False, True]:
            return None, file
    raise click.UsageError("Expected one prompt, got -p and -f; leave one out.")


def _generate(
    model: str, prompt: str, engine: dict[str, Any], settings: dict[str, Any], values: dict[str, Any]
) -> None:
    # Here, since they bring numpy and the native core: `weft generate --help` needs neither.
    from weft.cli.output import Speedometer
    from weft.tasks.model import load

    with ExitStack() as open_things:
        loaded = open_things.enter_context(load(model, **engine))
        if values["trace_path"]:
            from weft.serve.trace import trace_to

            open_things.enter_context(trace_to(loaded.runner, values["trace_path"]))
        speed = Speedometer()
        stream = loaded.stream(prompt, adapter=values["adapter"], **settings)
        try:
            _write(stream, speed, silent=values["as_json"])
        except KeyboardInterrupt:
            stream.close()
            _finish(loaded, stream, speed, values)
            raise
        _finish(loaded, stream, speed, values)


def _write(stream: Stream, speed: Speedometer, silent: bool) -> None:
    """Writes an answer as it comes."""
    from weft.cli.output import write_text

    for piece in stream:
        speed.count(piece)
        if not silent:
            write_text(piece.text)


def _finish(loaded: Model, stream: Stream, speed: Speedometer, values: dict[str, Any]) -> None:
    """Ends the text, or prints it as JSON; what is known besides goes to stderr."""
    completion = stream.completion
    if values["as_json"]:
        facts = {**asdict(completion), "statistics": speed.numbers(completion)}
        print(json.dumps(facts, ensure_ascii=False), flush=True)
    elif not completion.text.endswith("\n"):
        print(flush=True)
    if completion.logprobs is not None and not values["as_json"]:
        _print_logprobs(completion, loaded.tokenizer)
    if not values["quiet"]:
        print(speed.line(completion, loaded.pool.num_threads), file=sys.stderr)


def _print_logprobs(completion: Completion, tokenizer: Any) -> None:
    """A line on stderr for each token: its log-probability, its text, and the alternatives."""
    logprobs = completion.logprobs or ()
    alternatives: tuple[dict[int, float], ...] = completion.top_logprobs or tuple({} for _ in logprobs)
    for token, logprob, others in zip(completion.token_ids, logprobs, alternatives, strict=True):
        listed = "  ".join(f"{tokenizer.decode([other])!r} {value:.4f}" for other, value in others.items())
        print(f"{logprob:10.4f}  {tokenizer.decode([token])!r:20} {listed}", file=sys.stderr)
