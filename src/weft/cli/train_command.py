"""weft train: trains or fine-tunes a model in a run folder; progress goes to stderr."""

from __future__ import annotations

import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import click

from weft.cli.options import flag, given, setting_flags
from weft.train.config import TrainConfig, config_of
from weft.train.settings_file import joined_settings


@click.command("train")
@flag(
    "-c", "--config", "config_path", type=click.Path(dir_okay=False), help="YAML file of settings; flags win."
)
@flag(
    "--resume", metavar="RUN", help="Go on with the run in this folder; auto: with this one, if it was begun."
)
@setting_flags(TrainConfig)
@flag(
    "--trace",
    "trace_path",
    type=click.Path(dir_okay=False),
    help="Write a timeline of the threads in each step to this file.",
)
@flag("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    config_path: str | None, resume: str | None, trace_path: str | None, quiet: bool, **values: Any
) -> None:
    """Train or fine-tune a model.

    A model of weft's own sizes (gpt2-tiny, llama-tiny, lstm, perceptron, or a YAML file of sizes) is trained
    from scratch, any other one is fine-tuned. A perceptron with --targets, or on an NPZ file, learns columns
    of numbers rather than text. The run folder holds config.yaml, log.jsonl, checkpoints/ and, at the end,
    final/. Ctrl-C saves and leaves; --resume goes on to the same bits.
    """
    settings = given(TrainConfig, values)
    joined = joined_settings(config_path, settings)
    if resume is None:
        config_of(joined)  # wrong settings are said before anything is opened
    if resume is None and not joined.get("model"):
        raise click.UsageError("Expected a model to train, got none; pass --model, or --resume RUN.")
    sys.exit(_train(config_path, resume, settings, trace_path, quiet))


def _train(
    config_path: str | None, resume: str | None, settings: dict[str, Any], trace_path: str | None, quiet: bool
) -> int:
    # Here, since they bring numpy and the native core: `weft train --help` needs neither.
    from weft.cli.main import EXIT_INTERRUPTED
    from weft.cli.train_progress import PlainProgress, RichProgress
    from weft.serve.trace import trace_to
    from weft.tasks.train import trainer

    progress = PlainProgress() if quiet or not sys.stderr.isatty() else RichProgress()
    progress.quiet = quiet
    with closing(progress), trainer(config_path, resume=resume, callbacks=[progress], **settings) as made:
        progress.introduce(made)
        with trace_to(made, trace_path) if trace_path else nullcontext():
            result = made.run()
    if result.reason == "interrupted":
        progress.say(f"saved after {result.steps} steps; go on with: weft train --resume {result.folder}")
        return EXIT_INTERRUPTED
    print(result.final or Path(result.folder))
    return 0
