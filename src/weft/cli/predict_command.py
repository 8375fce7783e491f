"""weft predict: what a perceptron on vectors gives for a table of numbers, as CSV."""

from __future__ import annotations

import csv
import sys

import click

from weft.cli.options import flag


@click.command("predict")
@flag("-m", "--model", required=True, metavar="RUN", help="A run that trained on vectors, or its result.")
@flag("--data", multiple=True, required=True, help="CSV, Parquet or NPZ file; may be repeated.")
@flag("-t", "--threads", type=int, help="Threads to compute with; by default what the machine grants.")
def command(model: str, data: tuple[str, ...], threads: int | None) -> None:
    """Predict columns of numbers with a trained perceptron.

    The table needs the columns that the model learned from, by their names. A line of targets is printed for
    each row, as CSV.
    """
    from weft.tasks.vectors import predict_table

    names, rows = predict_table(model, data, threads)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([f"{value:.9g}" for value in row] for row in rows.tolist())
