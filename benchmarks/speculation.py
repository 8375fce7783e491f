"""What guessing ahead brings: answers with and without it, in turns, on texts that repeat and that do not.

Every answer is compared token by token. Prints a table of medians of the rounds' ratios, then one JSON line.

    .venv/bin/python benchmarks/speculation.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import weft

STORY = (
    "The tide tables of the harbour were printed every winter by a small firm on the quay. Old Marten set "
    "the type by hand, and his daughter Ilse checked each figure against the almanac. In March the first "
    "boats went out before dawn, and the crews carried the folded sheets in their coats. By June the paper "
    "was soft as cloth. Nobody remembered a year when the figures had been wrong, though in 1931 a storm "
    "from the north had held back the ebb for almost an hour, and two barges were left on the sand."
)
CODE = '''def blocks_for(tokens, block_tokens=32):
    """Blocks that hold `tokens` tokens."""
    return (tokens + block_tokens - 1) // block_tokens


class Allocator:
    def __init__(self, num_blocks):
        self.num_blocks = num_blocks
        self.free = list(range(num_blocks - 1, -1, -1))

    def allocate(self, count):
        assert 0 <= count <= len(self.free)
        return [self.free.pop() for _ in range(count)]

    def release(self, blocks):
        for block in blocks:
            self.free.append(block)
'''
PEOPLE = "Anna 31 Berlin; Bob 25 Paris; Carla 44 Rome; Dan 19 Oslo; Eve 52 Madrid; Finn 37 Vienna"
REPEATED = {
    "edit a text": f"Copy the following text exactly, but write Anton instead of Marten.\n\n{STORY}",
    "extract sentences": f"Copy the sentences about Ilse and about the storm out of this text.\n\n{STORY}",
    # To "rename the class" the smallest models answer with words of their own, which repeat nothing.
    "edit code": f"Add type hints to this code and print all of it:\n\n```python\n{CODE}```",
    "extract to JSON": f'Write these people as a JSON list with "name", "age" and "city": {PEOPLE}.',
}
FREE = {
    "a story": "Write a story about a lighthouse.",
    "an explanation": "Explain how rainbows form.",
    "a letter": "Write a letter to a friend about your new job.",
    "a poem": "Write a poem about the sea.",
}


def answer(model: weft.Model, prompt: str, batch: int, settings: dict[str, Any]) -> tuple[float, list[Any]]:
    """Seconds of `batch` answers to `prompt`, each with a seed of its own, and their tokens."""
    begin = time.perf_counter()
    tokens = model.chatter.tokens(prompt)
    streams = [model.generator.stream(tokens, **settings, seed=seed) for seed in range(batch)]
    for stream in streams:
        for _ in stream:
            pass
    took = time.perf_counter() - begin
    return took, [stream.completion.token_ids for stream in streams]


def compare(
    models: list[weft.Model], prompt: str, batch: int, settings: dict[str, Any], rounds: int
) -> dict[str, Any]:
    """The model that guesses against the one that does not, taking turns."""
    guessing = models[0].engine.statistics
    expected = [answer(model, prompt, batch, settings)[1] for model in models]
    if expected[0] != expected[1]:
        raise SystemExit("the answers differ: guessing ahead is broken")
    before = guessing.num_drafted, guessing.num_accepted
    ratios, seconds = [], []
    for number in range(rounds):
        turns = models if number % 2 else models[::-1]
        took = {id(model): answer(model, prompt, batch, settings) for model in turns}
        if any(tokens != expected[0] for _, tokens in took.values()):
            raise SystemExit("the answers differ between rounds")
        on, off = (took[id(model)][0] for model in models)
        ratios.append(off / on)
        seconds.append(on)
    num_tokens = sum(map(len, expected[0]))
    return {
        "tokens": num_tokens,
        "tokens_per_s": num_tokens / statistics.median(seconds),
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "drafted": (guessing.num_drafted - before[0]) // rounds,
        "accepted": (guessing.num_accepted - before[1]) // rounds,
    }


def main() -> None:
    """Measures, prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a chat model, by name or path")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=160, help="most tokens of an answer")
    parser.add_argument("--batch", type=int, default=1, help="answers at once")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--draft-max", type=int, default=16)
    arguments = parser.parse_args()
    settings = {"max_tokens": arguments.tokens, "temperature": arguments.temperature}
    models = [weft.load(arguments.model, draft_max=draft_max) for draft_max in (arguments.draft_max, 0)]
    rows = []
    print("| task | tokens/s | on against off | guessed | right |\n|---|---|---|---|---|")
    for kind, tasks in (("repeated", REPEATED), ("free", FREE)):
        for task, prompt in tasks.items():
            row = compare(models, prompt, arguments.batch, settings, arguments.rounds)
            rows.append({"task": task, "kind": kind, **row})
            print(f"| {task} | {row['tokens_per_s']:.0f} | {row['ratio']:.2f} | {row['drafted']} "
                  f"| {row['accepted']} |", flush=True)  # fmt: skip
    means = {
        kind: statistics.geometric_mean(row["ratio"] for row in rows if row["kind"] == kind)
        for kind in ("repeated", "free")
    }
    print(", ".join(f"{kind}: {mean:.2f}" for kind, mean in means.items()))
    print(json.dumps({"model": arguments.model, **vars(arguments), "geometric_means": means, "rows": rows}))


if __name__ == "__main__":
    main()
