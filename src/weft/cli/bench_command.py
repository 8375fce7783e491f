"""weft bench: the limits of this machine, and a model's speed by threads as a share of them."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.options import flag, given, model_flag, setting_flags
from weft.config import EngineConfig
from weft.tasks.load_config import LoadConfig
from weft.train.config import TrainConfig

if TYPE_CHECKING:
    from weft.machine import MachineLimits
    from weft.tasks.bench import Speed

_FIXED = ("threads", "teams", "max_context", "kv_memory", "max_rows", "max_running", "draft_max")
_TRAINING = ("batch_size", "max_seq_length", "lora", "rank", "dtype", "grad_checkpoint")
_NOT_TRAINING = tuple(field.name for field in fields(TrainConfig) if field.name not in _TRAINING)


@click.command("bench")
@model_flag(required=False)
@flag("-t", "--threads", metavar="LIST", help="Numbers of threads, such as 1,2,4; by default 1, 2, 4, … all.")
@flag("--quick", is_flag=True, help="Shorter texts and fewer rounds.")
@flag(
    "--serve", metavar="URL|MODEL", help="Put load on this server of OpenAI's API, or serve this model first."
)
@flag("--rate", metavar="LIST", help="With --serve: requests a second, such as 1,2,4, at random moments.")
@flag("--at-once", metavar="LIST", help="With --serve: requests under way at any time, such as 1,8,64.")
@flag("--api-key", help="With --serve: key of the server.")
@setting_flags(LoadConfig)
@flag("--train", is_flag=True, help="Measure training instead of generation.")
@flag("--json", "json_path", metavar="FILE", help="Write the results to this file; - for stdout, no tables.")
@setting_flags(EngineConfig, *_FIXED)
@setting_flags(TrainConfig, *_NOT_TRAINING)
@flag("-q", "--quiet", is_flag=True, help="Do not say on stderr what is measured.")
def command(model: str | None, **values: Any) -> None:
    """Measure this machine's limits, and a model's speed on it; without a model the limits alone.

    Prompt and generation speed at batch 1, 8 and 64, for each number of threads: medians of rounds that take
    turns, the tokens compared between all runs. The limit is the time that the arithmetic, or the reading
    and writing, of the step would take at the speeds measured first, whichever is longer.

    With --serve: what those see who send requests to a server, weft's or another: time to the first token,
    time between tokens, requests a second, at each rate or number at once. -m names the model to ask for.

    With --train: training steps of that model, or of a size to start from scratch, for each number of
    threads, in one team and in a team for each thread; the losses compared between all of them.
    """
    load = LoadConfig(**given(LoadConfig, values))
    if values["serve"]:
        _bench_serve(model, load, values)
        return
    training = given(TrainConfig, {name: values.pop(name) for name in _TRAINING})
    if values["train"]:
        _bench_training(model, _thread_list(values["threads"]), training, values)
        return
    source = click.get_current_context().get_parameter_source
    if alone := [name for name in training if source(name) is click.core.ParameterSource.COMMANDLINE]:
        named = ", ".join("--" + name.replace("_", "-") for name in alone)
        raise click.UsageError(f"Expected {named} with --train, got it alone; add --train.")
    engine = given(EngineConfig, {name: values.get(name) for name in ("quant", "kv_dtype")})
    _bench(model, _thread_list(values["threads"]), engine, values)


def _bench_serve(model: str | None, load: LoadConfig, values: dict[str, Any]) -> None:
    from weft.cli.bench_serve import loads_of, measure, print_loads

    loads = loads_of(values["rate"], values["at_once"])
    with _StatusLine(not values["quiet"]) as status:
        facts = measure(values["serve"], loads, load, model, values["api_key"], status.show)
    facts["settings"] = asdict(load)
    if values["json_path"] != "-":
        print_loads(facts)
    if values["json_path"]:
        _write_json(values["json_path"], facts)


def _thread_list(text: str | None) -> list[int]:
    """The numbers of threads, ascending, each once."""
    from weft.machine import default_threads
    from weft.tasks.bench import thread_counts

    if text is None:
        return thread_counts(default_threads())
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.UsageError(f"Expected numbers of threads such as 1,2,4, got {text!r}; correct --threads.")
    return sorted({int(part) for part in parts})


def _bench(model: str | None, threads: list[int], engine: dict[str, Any], values: dict[str, Any]) -> None:
    from weft.io.fetch.sources import resolve
    from weft.tasks.bench import FULL, FULL_ROUNDS, QUICK, QUICK_ROUNDS, machine_limits, measure_speeds
    from weft.tasks.model import load

    path = resolve(model) if model else None  # a wrong name is said before anything is measured
    json_path = values["json_path"]
    with _StatusLine(not values["quiet"]) as status:
        limits = machine_limits(threads, status.show)
        if json_path != "-":
            status.clear()
            _print_limits(limits)
        speeds: list[Speed] = []
        facts: dict[str, Any] | None = None
        if path is not None:
            works, rounds = (QUICK, QUICK_ROUNDS) if values["quick"] else (FULL, FULL_ROUNDS)
            with load(path, threads=threads[-1], draft_max=0, **engine) as loaded:  # every token is computed
                facts = _model_facts(model, path, engine, loaded)
                speeds = measure_speeds(loaded, works, limits, rounds, status.show)
    if speeds and json_path != "-":
        print()
        _print_speeds(speeds)
    if json_path:
        _write_json(json_path, _facts(limits, facts, speeds))


def _bench_training(
    model: str | None, threads: list[int], training: dict[str, Any], values: dict[str, Any]
) -> None:
    from weft.cli.bench_train import print_training, training_facts
    from weft.tasks.bench import machine_limits
    from weft.tasks.train_bench import QUICK_STEPS, STEPS, measure_training, open_trained
    from weft.train.config import config_of

    if not model:
        raise click.UsageError("Expected a model to train, got none; pass -m.")
    settings = config_of({**training, "model": model, "quant": values["quant"]})
    trained = open_trained(model)
    json_path, steps = values["json_path"], QUICK_STEPS if values["quick"] else STEPS
    with _StatusLine(not values["quiet"]) as status:
        limits = machine_limits(threads, status.show)
        speeds = measure_training(trained, settings, limits, steps, status.show)
    if json_path != "-":
        _print_limits(limits)
        print()
        print_training(speeds)
    if json_path:
        facts = _facts(limits, {"name": model, **training}, [])
        _write_json(json_path, {**facts, "training": training_facts(speeds), "same_losses": True})


def _print_limits(limits: dict[int, MachineLimits]) -> None:
    from weft.cli.tables import print_table

    columns = ("threads", "f32", "bf16", "q8", "q4", "GB/s read")
    rows = [
        (
            str(threads),
            *(f"{rate / 1e9:,.0f}" for rate in (m.f32_flops, m.bf16_flops, m.q8_flops, m.q4_flops)),
            f"{m.read_bytes_per_second / 1e9:.1f}",
        )
        for threads, m in limits.items()
    ]
    title = "This machine at most: 10⁹ operations a second by type of weight, and reading from memory"
    print_table(columns, rows, title, numeric=columns)


def _print_speeds(speeds: list[Speed]) -> None:
    from weft.cli.tables import percent, print_table, rate

    columns = ("work", "threads", "tokens/s", "spread", "speed-up", "limit", "share of limit")
    rows = [
        (
            speed.work.name,
            str(speed.threads),
            rate(speed.tokens_per_s),
            percent(speed.spread),
            "–" if (ratio := _speed_up(speed, speeds)) is None else f"{ratio:.2f} ×",
            rate(speed.limit_tokens_per_s),
            percent(speed.share),
        )
        for speed in speeds
    ]
    print_table(columns, rows, "Speed, the same tokens in every run", numeric=columns[1:])


def _speed_up(speed: Speed, speeds: list[Speed]) -> float | None:
    """Over one thread; None where that was not measured."""
    for other in speeds:
        if other.work == speed.work and other.threads == 1:
            return speed.tokens_per_s / other.tokens_per_s
    return None


def _model_facts(name: str | None, path: Path, engine: dict[str, Any], loaded: Any) -> dict[str, Any]:
    plan = loaded.runner.executable("generate").plan
    return {"name": name, "path": str(path), "weight_bytes": plan.weight_bytes, **engine}


def _facts(
    limits: dict[int, MachineLimits], model: dict[str, Any] | None, speeds: list[Speed]
) -> dict[str, Any]:
    from weft import __version__
    from weft.machine import processor_name
    from weft.runtime import selected_isa

    return {
        "weft": __version__,
        "machine": {"processor": processor_name(), "isa": selected_isa()},
        "model": model,
        "limits": [{"threads": threads, **asdict(found)} for threads, found in limits.items()],
        "speeds": [
            {
                **asdict(speed.work),
                "threads": speed.threads,
                "tokens_per_s": speed.tokens_per_s,
                "rounds_tokens_per_s": speed.rounds,
                "speed_up": _speed_up(speed, speeds),
                "limit_tokens_per_s": speed.limit_tokens_per_s,
                "share_of_limit": speed.share,
            }
            for speed in speeds
        ],
        "same_tokens": bool(speeds),
    }


def _write_json(path: str, facts: dict[str, Any]) -> None:
    import json

    from weft.cli.tables import print_json
    from weft.io.atomic_file import write_atomically

    if path == "-":
        print_json(facts)
    else:
        write_atomically(Path(path), (json.dumps(facts, indent=2) + "\n").encode())


class _StatusLine:
    """What is measured now, on stderr where that is a terminal."""

    def __init__(self, wanted: bool) -> None:
        self._live = wanted and sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Puts `text` in place of what was shown before."""
        if self._live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes away what was shown."""
        self.show("")

    def __enter__(self) -> _StatusLine:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()
