"""The course of a training run as pictures: a PNG by matplotlib, and a page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import ModelNotFoundError, UnsupportedError
from weft.io.atomic_file import write_atomically
from weft.train.log import read_log

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 240, 64, 28
_MOST_POINTS = 2000


@dataclass(frozen=True)
class Curve:
    """A line of a picture: its name, steps and values."""

    name: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Picture:
    """Curves over one axis."""

    title: str
    curves: tuple[Curve, ...]


def pictures_of(run: Path) -> list[Picture]:
    """Loss, learning rate and speed over the steps of a run. Raises ModelNotFoundError without a log."""
    lines = list(read_log(run / "log.jsonl"))
    if not lines:
        raise ModelNotFoundError(f"{run}: expected a run with a log, got none; check the path.")
    return [
        Picture("loss", (_curve(lines, "loss", "training"), _curve(lines, "valid_loss", "held out"))),
        Picture("learning rate", (_curve(lines, "learning_rate", "learning rate"),)),
        Picture("tokens per second", (_curve(lines, "tokens_per_second", "tokens per second"),)),
    ]


def _curve(lines: Sequence[dict[str, Any]], key: str, name: str) -> Curve:
    points = [(line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)]
    every = max(1, len(points) // _MOST_POINTS)
    points = points[::every]
    return Curve(name, [step for step, _ in points], [float(value) for _, value in points])


def write_png(run: Path, path: Path) -> None:
    """Draws the run to a PNG. Raises UnsupportedError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnsupportedError(
            "Expected matplotlib to draw a PNG, got none; pip install 'weft[plot]', or take the page."
        ) from error
    pictures = pictures_of(run)
    figure = Figure(figsize=(8, 3 * len(pictures)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, picture in enumerate(pictures, start=1):
        axes = figure.add_subplot(len(pictures), 1, number)
        for curve in picture.curves:
            if curve.steps:
                axes.plot(curve.steps, curve.values, label=curve.name, linewidth=1)
        axes.set_title(picture.title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(picture.curves) > 1:
            axes.legend()
    figure.savefig(path, dpi=120)


def write_page(run: Path, path: Path) -> None:
    """Writes a page of the pictures: one file, which asks nothing of any other place."""
    parts = [f"<h2>{html.escape(picture.title)}</h2>{_svg(picture)}" for picture in pictures_of(run)]
    title = html.escape(f"Training run {run.name}")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{''.join(parts)}</html>\n"
    )
    write_atomically(path, page.encode())


_STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;color:#222;"
    "background:#fff}h1{font-size:1.4em}h2{font-size:1.05em;margin:1.4em 0 .3em}svg{width:100%;height:auto}"
    "text{font-size:11px;fill:#555}.grid{stroke:#ddd}.c0{stroke:#2563a8}.c1{stroke:#c2571a}"
    "path{fill:none;stroke-width:1.4}@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}"
    "text{fill:#aaa}.grid{stroke:#333}}"
)


def _svg(picture: Picture) -> str:
    curves = [curve for curve in picture.curves if curve.steps]
    steps = [step for curve in curves for step in curve.steps]
    values = [value for curve in curves for value in curve.values]
    if not steps:
        return "<p>no values</p>"
    low, high = min(values), max(values)
    if high == low:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x(step: float) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - 12)

    def y(value: float) -> float:
        return 10 + (high - value) / (high - low) * (_HEIGHT - _BOTTOM - 10)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(picture.title)}">']
    for tick in range(5):
        value = low + (high - low) * tick / 4
        step = first + (last - first) * tick / 4
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        parts.append(f'<text x="{x(step):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{step:.0f}</text>')
    for number, curve in enumerate(curves):
        places = zip(curve.steps, curve.values, strict=True)
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in places)
        parts.append(f'<path class="c{number}" d="M{line}"/>')
        parts.append(f'<text x="{_WIDTH - 12}" y="{22 + 14 * number}" text-anchor="end">{curve.name}</text>')
    return "".join(parts) + "</svg>"
