"""Time to the first token of a chat's next turn after a long history, beside that of a fresh short prompt.

The two take turns; a fresh prompt finds nothing in the cache, and the last turn of the history is what the
model answered itself. Prints both medians and their ratio, then one JSON line.

    .venv/bin/python benchmarks/next_turn.py --rounds 15
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from typing import Any

import weft

WORDS = ("river", "stone", "lantern", "market", "winter", "paper", "harbour", "copper", "garden", "signal")

Messages = list[dict[str, str]]


def words(count: int) -> str:
    """Random words, so that no two texts are alike."""
    return " ".join(random.choices(WORDS, k=count))


def first_token(model: weft.Model, messages: Messages) -> dict[str, Any]:
    """Seconds to the first token, and how many tokens of the prompt were computed for it."""
    begin = time.perf_counter()
    stream = model.stream_chat(messages, temperature=0.0, max_tokens=4)
    next(stream)
    seconds = time.perf_counter() - begin
    sequence = stream._reader.sequence
    stream.close()
    length = len(sequence.prompt)
    return {"seconds": seconds, "tokens": length, "computed": length - sequence.num_reused}


def conversation(model: weft.Model, length: int) -> Messages:
    """A chat of about `length` tokens whose last turn the model has just answered."""
    messages: Messages = [{"role": "system", "content": "You answer."}]
    while True:
        messages.append({"role": "user", "content": words(40)})
        if len(model.chatter.tokens(messages)) > length - 60:
            break
        messages.append({"role": "assistant", "content": words(100)})
    answer = model.chat(messages, temperature=0.0, max_tokens=random.randint(20, 60))
    return [*messages, {"role": "assistant", "content": answer.text}]


def measure(model: weft.Model, length: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Rounds of a fresh prompt and a next turn with a question of the same length."""
    taken: dict[str, list[dict[str, Any]]] = {"fresh": [], "next": []}
    for _ in range(rounds):
        model.engine.forget_prefixes()
        chat = conversation(model, length)
        turn = [*chat, {"role": "user", "content": words(15)}]
        taken["next"].append(first_token(model, turn))
        model.engine.forget_prefixes()
        fresh = [{"role": "system", "content": "Hi."}, {"role": "user", "content": words(15)}]
        taken["fresh"].append(first_token(model, fresh))
    return taken


def main() -> None:
    """Measures, prints the medians and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a chat model, by name or path")
    parser.add_argument("--history", type=int, default=800, help="tokens of the chat before the turn")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    random.seed(1)
    with weft.load(arguments.model) as model:
        measure(model, arguments.history, 1)
        taken = measure(model, arguments.history, arguments.rounds)
    medians = {
        kind: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for kind, rows in taken.items()
    }
    for kind, row in medians.items():
        print(f"{kind}: {row['seconds'] * 1000:.1f} ms, {row['computed']:.0f} of {row['tokens']:.0f} tokens")
    pairs = zip(taken["next"], taken["fresh"], strict=True)
    ratio = statistics.median(turn["seconds"] / fresh["seconds"] for turn, fresh in pairs)
    print(f"ratio {ratio:.2f}")
    print(json.dumps({"model": arguments.model, "history": arguments.history, "ratio": ratio, **medians}))


if __name__ == "__main__":
    main()
