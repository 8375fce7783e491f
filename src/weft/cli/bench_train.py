"""What `weft bench --train` prints and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.tasks.train_bench import TrainSpeed


def print_training(speeds: list[TrainSpeed]) -> None:
    """A table of the settings."""
    from weft.cli.tables import percent, print_table, rate
    from weft.config import format_bytes

    columns = ("threads", "teams", "tokens/s", "spread", "speed-up", "limit", "share of limit", "memory")
    rows = [
        (
            str(speed.threads),
            str(speed.teams),
            rate(speed.tokens_per_s),
            percent(speed.spread),
            "–" if (ratio := _speed_up(speed, speeds)) is None else f"{ratio:.2f} ×",
            rate(speed.limit_tokens_per_s),
            percent(speed.share),
            format_bytes(speed.memory_bytes),
        )
        for speed in speeds
    ]
    print_table(columns, rows, "Training, the same losses in every setting", numeric=columns)


def training_facts(speeds: list[TrainSpeed]) -> list[dict[str, Any]]:
    """The settings for JSON."""
    return [
        {
            "threads": speed.threads,
            "teams": speed.teams,
            "slices": speed.slices,
            "tokens_per_step": speed.tokens,
            "tokens_per_s": speed.tokens_per_s,
            "rounds_tokens_per_s": speed.rounds,
            "speed_up": _speed_up(speed, speeds),
            "limit_tokens_per_s": speed.limit_tokens_per_s,
            "share_of_limit": speed.share,
            "memory_bytes": speed.memory_bytes,
            "losses": speed.losses,
        }
        for speed in speeds
    ]


def _speed_up(speed: TrainSpeed, speeds: list[TrainSpeed]) -> float | None:
    """Over one thread; None where that was not measured."""
    one = next((other for other in speeds if other.threads == 1), None)
    return None if one is None else speed.tokens_per_s / one.tokens_per_s
