"""weft plot: draws the course of a training run."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.options import flag


@click.command("plot")
@click.argument("run", type=click.Path(file_okay=False, exists=True))
@flag("--png", "png_path", type=click.Path(dir_okay=False), help="PNG to write, if not the run's plot.png.")
@flag(
    "--html", "page_path", type=click.Path(dir_okay=False), help="Page to write, if not the run's plot.html."
)
def command(run: str, png_path: str | None, page_path: str | None) -> None:
    """Draw loss, learning rate and speed of a training run: a PNG and a page."""
    from weft.errors import UnsupportedError
    from weft.tasks.plot import write_page, write_png

    folder = Path(run)
    page = Path(page_path) if page_path else folder / "plot.html"
    write_page(folder, page)
    print(page)
    png = Path(png_path) if png_path else folder / "plot.png"
    try:
        write_png(folder, png)
        print(png)
    except UnsupportedError as error:
        if png_path:
            raise
        click.echo(f"weft: {error}", err=True)
