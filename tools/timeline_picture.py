"""Draw some milliseconds of a trace as an SVG picture: a row a thread, a box an operation.

weft generate -m MODEL -p TEXT --trace trace.json
python tools/timeline_picture.py trace.json docs/timeline.svg [--run 5] [--milliseconds 4]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH, ROW, LEFT, TOP = 1200, 54, 90, 34
COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#bab0ac")
STYLE = "text{font:13px system-ui,sans-serif;fill:#888}.label{fill:#fff;font-size:11px}"


def spans_between(
    trace: Sequence[Mapping[str, Any]], run: int, milliseconds: float
) -> list[Mapping[str, Any]]:
    """The spans of all threads from the start of a run on."""
    spans = [event for event in trace if event.get("ph") == "X"]
    start = min(span["ts"] for span in spans if span["args"]["run"] == run)
    end = start + 1000 * milliseconds
    return [{**span, "ts": span["ts"] - start} for span in spans if start <= span["ts"] < end]


def picture(spans: Sequence[Mapping[str, Any]], milliseconds: float) -> Iterator[str]:
    """The lines of the SVG."""
    threads = sorted({span["tid"] for span in spans})
    totals: dict[str, float] = {}
    for span in spans:
        totals[span["name"]] = totals.get(span["name"], 0.0) + span["dur"]
    names = sorted(totals, key=lambda name: -totals[name])
    color = {name: COLORS[min(index, len(COLORS) - 1)] for index, name in enumerate(names)}
    height = TOP + ROW * len(threads) + 60
    scale = (WIDTH - LEFT - 10) / (1000 * milliseconds)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"><style>{STYLE}</style>'
    for tick in range(int(milliseconds * 2) + 1):
        x = LEFT + tick * 500 * scale
        yield f'<path d="M{x:.1f} {TOP - 8}V{height - 52}" stroke="#8884"/>'
        yield f'<text x="{x:.1f}" y="18" text-anchor="middle">{tick / 2:g} ms</text>'
    for row, thread in enumerate(threads):
        yield f'<text x="8" y="{TOP + ROW * row + 28}">thread {thread}</text>'
    for span in spans:
        yield from box(span, threads.index(span["tid"]), scale, color[span["name"]])
    yield from legend(names, color, height)
    yield "</svg>"


def box(span: Mapping[str, Any], row: int, scale: float, color: str) -> Iterator[str]:
    """A span, with its name where there is room."""
    x, width, y = LEFT + span["ts"] * scale, max(span["dur"] * scale, 0.4), TOP + ROW * row
    if x >= WIDTH - 10:
        return
    width = min(width, WIDTH - 10 - x)
    title = escape(f"{span['name']} {span['args'].get('where', '')}: {span['dur']:.0f} µs")
    place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 10}"'
    yield f'<rect {place} fill="{color}"><title>{title}</title></rect>'
    if width > 7 * len(span["name"]):
        yield f'<text class="label" x="{x + 4:.1f}" y="{y + 26}">{escape(span["name"])}</text>'


def legend(names: Sequence[str], color: Mapping[str, str], height: int) -> Iterator[str]:
    """What the colors mean."""
    x = LEFT
    for name in names[: len(COLORS)]:
        yield f'<rect x="{x}" y="{height - 34}" width="12" height="12" fill="{color[name]}"/>'
        yield f'<text x="{x + 17}" y="{height - 23}">{escape(name)}</text>'
        x += 40 + 7 * len(name)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--run", type=int, default=5, help="the step to begin with")
    parser.add_argument("--milliseconds", type=float, default=4.0)
    options = parser.parse_args()
    trace = json.loads(options.trace.read_text(encoding="utf-8"))
    spans = spans_between(trace, options.run, options.milliseconds)
    options.picture.write_text("\n".join(picture(spans, options.milliseconds)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
