"""What adapters cost in speed: requests at once without any, all with one, and each with one of several.

python benchmarks/adapters.py [MODEL] [--requests 64] [--tokens 32] [--rank 16] [--adapters 4] [--rounds 3]

The adapters are random, of all linear layers. Answers are compared between rounds, and those of the mixed
batch with the same requests' in batches of one adapter each. The last line is JSON: tokens a second of each
kind, medians of the rounds, and ratios to those without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from batch import prompts_of

import weft
from weft.io.fetch.sources import resolve
from weft.io.open_checkpoint import open_checkpoint
from weft.models.adapter import AdapterSettings
from weft.models.registry import read_config
from weft.train.adapters import Adapter, initial_adapter, save_adapter

Names = list[str | None]


def write_adapters(folder: Path, model: str, count: int, rank: int) -> dict[str, Path]:
    """Random adapters, strong enough to change answers."""
    config = read_config(open_checkpoint(resolve(model)).config)
    paths = {}
    for seed in range(count):
        random = np.random.default_rng(seed)
        weights = {
            name: random.normal(0.0, values.shape[-1] ** -0.5, values.shape).astype(np.float32)
            for name, values in initial_adapter(config, (), rank, seed).items()
        }
        paths[f"a{seed}"] = folder / f"a{seed}"
        save_adapter(paths[f"a{seed}"], config, Adapter(AdapterSettings(rank, 0.1 * rank), weights, model))
    return paths


def answers(model: weft.Model, prompts: list[str], names: Names, tokens: int) -> tuple[float, list[tuple]]:
    """Seconds of all prompts at once, each with its adapter, and the tokens."""
    model.engine.forget_prefixes()
    begin = time.perf_counter()
    found = model.generate(prompts, adapter=names, max_tokens=tokens, temperature=0.0, ignore_eos=True)
    return time.perf_counter() - begin, [answer.token_ids for answer in found]


def check_mixed(model: weft.Model, prompts: list[str], names: Names, tokens: int) -> list[tuple]:
    """The mixed batch's tokens, which must be those of batches of one adapter each."""
    mixed = answers(model, prompts, names, tokens)[1]
    for name in sorted(set(names), key=str):
        places = [place for place, other in enumerate(names) if other == name]
        alone = answers(model, [prompts[place] for place in places], [name] * len(places), tokens)[1]
        if alone != [mixed[place] for place in places]:
            raise SystemExit(f"answers with adapter {name} differ in a mixed batch")
    return mixed


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    options = {"requests": 64, "tokens": 32, "rank": 16, "adapters": 4, "rounds": 3, "threads": 2}
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    prompts = prompts_of(args.requests)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_adapters(Path(folder), args.model, args.adapters, args.rank)
        with weft.load(args.model, adapters=paths, threads=args.threads, draft_max=0) as model:
            numbers = range(args.requests)
            kinds: dict[str, Names] = {
                "none": [None for _ in numbers],
                "one": ["a0" for _ in numbers],
                f"{args.adapters} mixed": [f"a{number % args.adapters}" for number in numbers],
            }
            expected = {
                kind: check_mixed(model, prompts, names, args.tokens) for kind, names in kinds.items()
            }
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(args.rounds):
                for kind, names in kinds.items():
                    took, tokens = answers(model, prompts, names, args.tokens)
                    assert tokens == expected[kind], f"{kind}: the answers differ between rounds"
                    seconds[kind].append(took)
    rates = {kind: args.requests * args.tokens / statistics.median(taken) for kind, taken in seconds.items()}
    ratios = {kind: round(rate / rates["none"], 3) for kind, rate in rates.items()}
    spread = {kind: [round(second, 3) for second in taken] for kind, taken in seconds.items()}
    rounded = {kind: round(rate, 1) for kind, rate in rates.items()}
    print(json.dumps({**vars(args), "tokens_per_s": rounded, "ratios": ratios, "seconds": spread}))


if __name__ == "__main__":
    main()
