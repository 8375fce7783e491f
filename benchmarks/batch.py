"""A batch's speed beside the engine's own: `weft batch`'s loop against `Model.generate` on the same prompts.

python benchmarks/batch.py [MODEL] [--prompts 128] [--tokens 32] [--rounds 3] [--threads 2]

The answers are compared first; then the two take turns, with the prefix cache emptied before each. The last
line is JSON: tokens a second of both, medians of the rounds, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import weft
from weft.batch.config import BatchConfig
from weft.batch.origin import write_origin
from weft.batch.requests import read_requests
from weft.batch.results import ResultFile
from weft.batch.run import BatchRun
from weft.cli.batch_progress import BatchProgress
from weft.server.served import Served

TEXT = "the loom weaves a cloth of many threads while rain falls on old roofs and nobody counts"
WORDS = TEXT.split()


def prompts_of(count: int) -> list[str]:
    """Short prompts that begin differently."""
    return [" ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(12)) for i in range(count)]


def run_batch(model: weft.Model, folder: Path, prompts: list[str], settings: dict) -> tuple[float, list[str]]:
    """Seconds and answers of a batch, its files included."""
    requests, output = folder / "requests.jsonl", folder / "results.jsonl"
    lines = [
        {"custom_id": str(i), "method": "POST", "url": "/v1/completions", "body": {"prompt": p, **settings}}
        for i, p in enumerate(prompts)
    ]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model.engine.forget_prefixes()
    begin = time.perf_counter()
    with ResultFile(output, restart=True) as results:
        write_origin(output, {}, requests)
        progress = BatchProgress(0, len(prompts))
        BatchRun(Served(model, "m"), {}, results, progress).run(read_requests(requests, BatchConfig()))
    seconds = time.perf_counter() - begin
    found = [json.loads(line) for line in output.read_text().splitlines()]
    return seconds, [item["response"]["body"]["choices"][0]["text"] for item in found]


def run_engine(model: weft.Model, prompts: list[str], settings: dict) -> tuple[float, list[str]]:
    """Seconds and answers of `Model.generate`."""
    model.engine.forget_prefixes()
    begin = time.perf_counter()
    answers = model.generate(prompts, **settings)
    return time.perf_counter() - begin, [answer.text for answer in answers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    for name, default in (("prompts", 128), ("tokens", 32), ("rounds", 3), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    prompts = prompts_of(args.prompts)
    settings = {"max_tokens": args.tokens, "temperature": 0.0, "ignore_eos": True}
    with weft.load(args.model, threads=args.threads) as model, tempfile.TemporaryDirectory() as folder:
        expected = run_engine(model, prompts, settings)[1]
        assert run_batch(model, Path(folder), prompts, settings)[1] == expected, "the answers differ"
        batch, engine = [], []
        for _ in range(args.rounds):
            batch.append(run_batch(model, Path(folder), prompts, settings)[0])
            engine.append(run_engine(model, prompts, settings)[0])
    tokens = args.prompts * args.tokens
    speeds = {"batch": tokens / statistics.median(batch), "engine": tokens / statistics.median(engine)}
    told = {f"{name}_tokens_per_s": round(speed, 1) for name, speed in speeds.items()}
    print(json.dumps({**vars(args), **told, "ratio": round(speeds["batch"] / speeds["engine"], 4)}))


if __name__ == "__main__":
    main()
