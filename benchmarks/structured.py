"""Tokens a second of answers held to a JSON schema, beside free text: the same model, prompts and numbers.

Rounds alternate between the two, at batch sizes 1 and 16. Answers that end are validated with jsonschema, and
those of a batch must be those that each request gets alone. Prints a table, then one JSON line.

    .venv/bin/python benchmarks/structured.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import jsonschema

import weft

SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 4,
    "maxItems": 8,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "city": {"enum": ["Lyon", "Ürümqi", "Leeds", "Chemnitz"]},
            "trade": {"type": "string", "maxLength": 60},
        },
        "required": ["name", "age", "city", "trade"],
        "additionalProperties": False,
    },
}
KINDS: dict[str, dict[str, Any]] = {"free": {"ignore_eos": True}, "schema": {"json_schema": SCHEMA}}


def prompts(count: int) -> list[str]:
    """Different, so that they share nothing but their begin."""
    return [f"Describe {n + 2} people who work in a weaving mill, as JSON: " for n in range(count)]


def rate(model: weft.Model, kind: str, batch: int, max_tokens: int, seed: int) -> float:
    """Answered tokens a second of one batch."""
    begin = time.perf_counter()
    found = model.generate(prompts(batch), seed=seed, max_tokens=max_tokens, **KINDS[kind])
    seconds = time.perf_counter() - begin
    for answer in found if kind == "schema" else ():
        if answer.finish_reason == "stop":
            jsonschema.validate(json.loads(answer.text), SCHEMA)
    return sum(len(answer.token_ids) for answer in found) / seconds


def check_alone(model: weft.Model, max_tokens: int) -> None:
    """Answers of a batch are those that each request gets alone."""
    settings = {"seed": 1, "max_tokens": max_tokens, **KINDS["schema"]}
    together = model.generate(prompts(3), **settings)
    assert together == [model.generate(prompt, **settings)[0] for prompt in prompts(3)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--draft-max", type=int, default=16, help="tokens guessed ahead, of both; 0 for none")
    asked = parser.parse_args()
    results = []
    with weft.load(asked.model, threads=asked.threads, draft_max=asked.draft_max) as model:
        check_alone(model, 24)
        for batch in asked.batches:
            rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for seed in range(-1, asked.rounds):
                for kind in KINDS:
                    found = rate(model, kind, batch, asked.tokens, max(seed, 0))
                    if seed >= 0:  # the first round warms up
                        rates[kind].append(found)
            ratios = [schema / free for schema, free in zip(rates["schema"], rates["free"], strict=True)]
            result = {
                "batch": batch,
                **{f"{kind}_tokens_per_s": round(statistics.median(rates[kind]), 1) for kind in KINDS},
                "ratio": round(statistics.median(ratios), 3),
                "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
            }
            results.append(result)
            print(result, flush=True)
        threads = model.pool.num_threads
    print(
        json.dumps({"benchmark": "structured", "model": asked.model, "threads": threads, "results": results})
    )


if __name__ == "__main__":
    main()
