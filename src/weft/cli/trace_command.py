"""weft trace: sums up a timeline that --trace wrote."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from weft.cli.options import flag

if TYPE_CHECKING:
    from weft.machine import MachineLimits
    from weft.serve.trace_summary import Summary


@click.command("trace")
@click.argument("file", type=click.Path(dir_okay=False))
@flag("--no-limits", is_flag=True, help="Do not measure this machine's limits: no shares of the limit.")
@flag("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(file: str, no_limits: bool, as_json: bool) -> None:
    """Sum up a timeline that `weft generate --trace` or `weft train --trace` wrote.

    ui.perfetto.dev shows the same file. Time by operation, as a share of the whole and beside the time that
    this machine would need at its limits (measured now), and how busy each thread was.
    """
    from weft.cli.tables import print_json
    from weft.serve.trace_summary import summarize

    summary = summarize(file)
    limits = None if no_limits else _limits(summary)
    if as_json:
        print_json(_facts(summary, limits))
    else:
        _print(summary, limits)


def _limits(summary: Summary) -> MachineLimits | None:
    """This machine's limits for as many threads; None where the timeline is of another machine."""
    from weft.machine import processor_name
    from weft.runtime import selected_isa
    from weft.tasks.bench import machine_limits

    here = {"processor": processor_name(), "isa": selected_isa()}
    if summary.machine != here:
        print(
            "weft: the timeline is of another machine or kernel set: no shares of the limit", file=sys.stderr
        )
        return None
    threads = len(summary.threads)
    return machine_limits([threads])[threads]


def _print(summary: Summary, limits: MachineLimits | None) -> None:
    from weft.cli.tables import percent, plural, print_table

    print(
        f"{plural(summary.num_runs, 'run')} in {summary.total_s:.3f} s, "
        f"{summary.run_s:.3f} s of it within runs"
    )
    print()
    columns = ("operation", "weight", "runs", "ms", "of time", "GFLOP/s", "GB/s", "share of limit")
    rows = [
        (
            operation.name,
            operation.weight,
            str(operation.num_runs),
            f"{1e3 * operation.time_s:.1f}",
            percent(operation.time_s / summary.run_s if summary.run_s else None),
            f"{1e-9 * operation.flops / operation.time_s:.1f}" if operation.time_s else "–",
            f"{1e-9 * operation.bytes / operation.time_s:.1f}" if operation.time_s else "–",
            percent(operation.share(limits) if limits else None),
        )
        for operation in summary.operations
    ]
    print_table(columns, rows, numeric=columns[2:])
    print()
    threads = [
        (
            thread.name,
            f"{1e3 * thread.busy_s:.1f}",
            percent(_busy(thread.busy_s, summary)),
            str(thread.num_spans),
        )
        for thread in summary.threads
    ]
    print_table(("thread", "busy ms", "of runs", "spans"), threads, numeric=("busy ms", "of runs", "spans"))


def _busy(busy_s: float, summary: Summary) -> float | None:
    return busy_s / summary.run_s if summary.run_s else None


def _facts(summary: Summary, limits: MachineLimits | None) -> dict[str, Any]:
    operations = [
        {**asdict(operation), "share_of_limit": operation.share(limits) if limits else None}
        for operation in summary.operations
    ]
    threads = [{**asdict(thread), "busy_share": _busy(thread.busy_s, summary)} for thread in summary.threads]
    return {
        **asdict(summary),
        "operations": operations,
        "threads": threads,
        "limits": asdict(limits) if limits else None,
    }
