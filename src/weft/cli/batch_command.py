"""weft batch: a file of requests to a file of results, continued where it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.adapter_flags import adapter_flags, default_and_named
from weft.cli.options import (
    engine_flags,
    flag,
    given,
    model_flag,
    sampling_flags,
    setting_flags,
)
from weft.config import EngineConfig
from weft.serve.sampling import SamplingParams

if TYPE_CHECKING:
    from weft.batch.config import BatchConfig
    from weft.batch.run import BatchSummary


def _batch_flags(command: Any) -> Any:
    from weft.batch.config import BatchConfig

    return setting_flags(BatchConfig)(command)


@click.command("batch")
@click.argument("requests", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@flag(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the results to this file; where it holds some, the batch goes on after them.",
)
@model_flag()
@adapter_flags
@_batch_flags
@flag("--restart", is_flag=True, help="Drop the results that are there and begin anew.")
@flag("--served-name", help="Name of the model in the requests; by default the name it was loaded by.")
@sampling_flags()
@engine_flags
@flag("-q", "--quiet", is_flag=True, help="Show no progress.")
def command(requests: Path, output: Path, model: str, **values: Any) -> None:
    """Answer a file of requests: OpenAI's batch format, or a column of a table.

    Results are in the order of the requests, in OpenAI's batch format, and appear as they come. A batch that
    was stopped or killed goes on where it was when it is run again. A request that is wrong has an error for
    its result. Sampling settings are for what the requests leave out.
    """
    from weft.batch.config import BatchConfig

    config = BatchConfig(**given(BatchConfig, values))
    settings = given(SamplingParams, values)
    if config.is_table:
        settings.setdefault("max_tokens", SamplingParams.max_tokens)
    engine = given(EngineConfig, values)
    SamplingParams(**settings)  # wrong settings are said before a model is loaded
    _batch(requests, output, model, config, settings, engine, values)


def _batch(
    requests: Path,
    output: Path,
    model: str,
    config: BatchConfig,
    settings: dict[str, Any],
    engine: dict[str, Any],
    values: dict[str, Any],
) -> None:
    # Here, since they bring numpy, the native core and the server: `weft batch --help` needs none of them.
    from weft.batch.origin import check_origin, write_origin
    from weft.batch.requests import count_requests, read_requests
    from weft.batch.results import ResultFile
    from weft.batch.run import BatchRun, BatchSummary
    from weft.cli.batch_progress import progress_of
    from weft.server.served import Served
    from weft.tasks.model import load

    default, named = default_and_named(values["adapters"])
    if output.exists() and output.samefile(requests):
        raise click.UsageError("Expected results in a file of their own, got the requests' one; change -o.")
    total = count_requests(requests, config)
    origin = _origin(model, config, settings, engine, values)
    with ResultFile(output, values["restart"]) as results:
        if results.names:
            check_origin(output, origin, requests)
        else:
            write_origin(output, origin, requests)
        if results.names and len(results.names) == total:
            _say(BatchSummary(total), total, output, values["quiet"])
            return
        with load(model, adapter=default, **engine) as loaded:
            served = Served(loaded, values["served_name"] or model.rstrip("/").rsplit("/", 1)[-1])
            for name, path in named.items():
                served.load_adapter(name, path)
            with progress_of(values["quiet"], len(results.names), total) as progress:
                run = BatchRun(served, settings, results, progress)
                try:
                    run.run(read_requests(requests, config))
                finally:
                    progress.close()
                    _say(run.summary, total, output, values["quiet"])


def _origin(
    model: str,
    config: BatchConfig,
    settings: dict[str, Any],
    engine: dict[str, Any],
    values: dict[str, Any],
) -> dict[str, Any]:
    """All that the results depend on besides the requests, by its flag."""
    from dataclasses import asdict

    from weft.batch.origin import folder_digest
    from weft.io.fetch.sources import resolve
    from weft.io.open_checkpoint import fingerprint
    from weft.train.adapters import adapter_folder

    told = {
        **asdict(config),
        **settings,
        **{name: engine.get(name) for name in ("quant", "kv_dtype", "max_context")},
    }
    flags = {
        f"--{name.replace('_', '-')}": value for name, value in told.items() if value not in (None, False, ())
    }
    files = fingerprint(resolve(model))
    paths = {adapter: Path(adapter.partition("=")[2] or adapter) for adapter in values["adapters"]}
    adapters = {f"--adapter {told}": folder_digest(adapter_folder(path)) for told, path in paths.items()}
    return {"model": model, "model_files": files, **adapters, **flags}


def _say(summary: BatchSummary, total: int, output: Path, quiet: bool) -> None:
    """How far it came, in a line."""
    done = summary.num_before + summary.num_written
    errors = f", {summary.num_failed} of those written now are errors" if summary.num_failed else ""
    if not quiet or summary.num_failed:
        print(f"{done} of {total} results in {output}{errors}", file=sys.stderr, flush=True)
