"""weft list: the models at hand, and those that a short name fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weft.cli.options import flag

if TYPE_CHECKING:
    from weft.io.fetch.sources import ModelEntry


@click.command("list")
@flag("--json", "as_json", is_flag=True, help="Print the models as JSON.")
def command(as_json: bool) -> None:
    """Show the models at hand, and the names of those that `weft pull` knows.

    "packed" is what weft computed from the weights, to start at once the next time.
    """
    from weft.cli.tables import print_json, print_table
    from weft.config import format_bytes
    from weft.io.fetch.catalogue import CATALOGUE
    from weft.io.fetch.sources import list_models

    entries = list_models()
    at_hand = {entry.name for entry in entries}
    others = [entry for name, entry in sorted(CATALOGUE.items()) if name not in at_hand]
    if as_json:
        known = [{"name": other.name, "description": other.description} for other in others]
        print_json({"models": [_plain(entry) for entry in entries], "to_pull": known})
        return
    rows = [
        (
            e.name,
            format_bytes(e.size_bytes),
            format_bytes(e.packed_bytes) if e.packed_bytes else "–",
            e.source,
        )
        for e in entries
    ]
    rows += [(other.name, "–", "–", f"not here yet: weft pull {other.name}") for other in others]
    print_table(("model", "size", "packed", "from"), rows, numeric=("size", "packed"))


def _plain(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "size_bytes": entry.size_bytes,
        "packed_bytes": entry.packed_bytes,
        "source": entry.source,
    }
