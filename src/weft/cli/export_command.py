"""weft export: writes a model in another format."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.options import flag, model_flag
from weft.io.gguf.writer import GGUF_KINDS
from weft.io.hf_writer import DTYPES


@click.command("export")
@model_flag()
@flag("--adapter", help="Adapter to join with it: its folder, or a run's.")
@flag("--hf", "folder", type=click.Path(file_okay=False), help="Write a Hugging Face folder.")
@flag("--gguf", "gguf", type=click.Path(dir_okay=False), help="Write a GGUF file.")
@flag("--pth", "state", type=click.Path(dir_okay=False), help="Write a state dictionary of torch.")
@flag("--dtype", type=click.Choice(tuple(DTYPES)), default="bfloat16", help="Weights of the folder.")
@flag(
    "--gguf-type", "kind", type=click.Choice(tuple(GGUF_KINDS)), default="f16", help="Matrices of the GGUF."
)
def command(
    model: str,
    adapter: str | None,
    folder: str | None,
    gguf: str | None,
    state: str | None,
    dtype: str,
    kind: str,
) -> None:
    """Write a model, a run's result or its newest checkpoint, in another format."""
    if not (folder or gguf or state):
        raise click.UsageError("Expected a format to write, got none; pass --hf, --gguf or --pth.")
    from weft.tasks.export import export_folder, export_gguf_file, export_state

    if folder:
        export_folder(model, Path(folder), dtype, adapter)
    if gguf:
        export_gguf_file(model, Path(gguf), kind, adapter)
    if state:
        export_state(model, Path(state), adapter)
    for written in (folder, gguf, state):
        if written:
            print(written)
