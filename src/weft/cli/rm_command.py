"""weft rm: removes fetched models and what was computed from them."""

from __future__ import annotations

import click

from weft.cli.options import flag


@click.command("rm")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@flag("--json", "as_json", is_flag=True, help="Print the models and the bytes freed as JSON.")
def command(models: tuple[str, ...], as_json: bool) -> None:
    """Remove fetched models with their packed weights, and what is left of a fetch that broke off.

    Files that weft did not fetch are never touched.
    """
    from weft.cli.tables import print_json
    from weft.config import format_bytes
    from weft.io.fetch.sources import remove_model

    removed = []
    for model in models:
        freed = remove_model(model)
        removed.append({"name": model, "freed_bytes": freed})
        if not as_json:
            print(f"removed {model}, {format_bytes(freed)} freed")
    if as_json:
        print_json(removed)
