"""weft fuse: joins an adapter with the model that it was trained for."""

from __future__ import annotations

import click

from weft.cli.options import flag, model_flag
from weft.io.hf_writer import DTYPES


@click.command("fuse")
@model_flag()
@flag("--adapter", required=True, help="Adapter to join: its folder, or a run's.")
@flag("--out", required=True, type=click.Path(file_okay=False), help="Folder to write the model to.")
@flag("--dtype", type=click.Choice(tuple(DTYPES)), default="bfloat16", help="Type of the weights.")
def command(model: str, adapter: str, out: str, dtype: str) -> None:
    """Join an adapter with its model, as a Hugging Face folder."""
    from pathlib import Path

    from weft.tasks.export import export_folder

    export_folder(model, Path(out), dtype, adapter)
    print(out)
