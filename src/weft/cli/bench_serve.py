"""weft bench --serve: load against a server that runs, or that is started for it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from weft.tasks.load_config import LoadConfig
    from weft.tasks.load_run import Load


def loads_of(rates: str | None, at_once: str | None) -> list[Load]:
    """The loads that two lists of numbers name; by default a few rates."""
    from weft.tasks.load_run import Load

    if rates is None and at_once is None:
        rates = "1,2,4"
    found = [Load(rate=number) for number in _numbers("--rate", rates)]
    return found + [Load(at_once=int(number)) for number in _numbers("--at-once", at_once)]


def measure(
    place: str,
    loads: list[Load],
    config: LoadConfig,
    model: str | None,
    api_key: str | None,
    show: Callable[[str], None],
) -> dict[str, Any]:
    """Runs the loads one after another against the server at `place`, a URL or a model to serve."""
    from weft.tasks.load_client import Target
    from weft.tasks.load_run import probe, run_load

    async def run(url: str) -> dict[str, Any]:
        target = Target.of(url, api_key)
        fields = await probe(target, model)
        results = [await run_load(target, fields, load, config, show) for load in loads]
        return {"url": url, "model": fields["model"], "loads": results}

    with _server(place) as url:
        return asyncio.run(run(url))


def print_loads(facts: dict[str, Any]) -> None:
    """The results as a table."""
    from weft.cli.tables import percent, print_table

    columns = (
        "load",
        "requests/s",
        "good",
        "first token",
        "p95",
        "p99",
        "between",
        "p95",
        "tokens/s",
        "failed",
    )
    rows = [
        (
            result["load"],
            f"{result['requests_per_s']:.2f}",
            percent(result["good_share"]),
            *(_ms(result["first_token_s"], name) for name in ("median", "p95", "p99")),
            *(_ms(result["between_tokens_s"], name) for name in ("median", "p95")),
            f"{result['answer_tokens_per_s']:,.0f}",
            str(result["failures"]),
        )
        for result in facts["loads"]
    ]
    title = f"{facts['model']} at {facts['url']}; times in ms; good: 2 s to the first token, 100 ms between"
    print_table(columns, rows, title, numeric=columns[1:])
    for reason, count in ((r, c) for result in facts["loads"] for r, c in result["failure_reasons"].items()):
        print(f"failed {count} times: {reason}", file=sys.stderr)


@contextlib.contextmanager
def _server(place: str) -> Iterator[str]:
    """The URL of the server; one that is started here ends with the block."""
    if "://" in place:
        yield place
        return
    command = [sys.executable, "-m", "weft", "serve", place, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+:\d+", process.stdout.readline())
            if found is None:
                raise click.ClickException(
                    f"Expected a server of {place} to start, got none; `weft serve {place}` says why."
                )
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)


def _numbers(flag: str, text: str | None) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        numbers = [0.0]
    if any(not 0 < number < 1e6 for number in numbers) or (
        flag == "--at-once" and any(number != int(number) for number in numbers)
    ):
        raise click.UsageError(f"Expected numbers such as 1,2,4, got {text!r}; correct {flag}.")
    return numbers


def _ms(times: dict[str, float] | None, name: str) -> str:
    return "–" if times is None else f"{times[name] * 1e3:,.0f}"
