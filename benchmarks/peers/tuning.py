"""Find each engine's best threads and settings for a work, so that nobody is compared below its best."""

import sys
from collections.abc import Sequence
from typing import Any

from peers.process import PeerProcess
from peers.rounds import Rounds, Turn, measure


def best_turn(
    label: str, process: PeerProcess, work: str, threads: Sequence[int], rounds: Rounds
) -> tuple[Turn, list[dict[str, Any]]]:
    """Return the turn with the fastest candidate, and what every candidate took.

    The engine names its candidates; each is tried once with the most threads, and the winner then with the
    other numbers of threads. A candidate that fails is kept with its error and never wins.
    """
    most = max(threads)
    listed = process.ask(work=work, threads=most, candidates=True)
    requests = [
        {"work": work, "threads": most, "settings": settings} for settings in listed.get("candidates", [{}])
    ]
    tried = [attempt(label, process, request, rounds) for request in requests]
    winner = fastest(tried)
    for count in sorted(set(threads) - {most}, reverse=True):
        if winner is not None:
            for_count = process.ask(work=work, threads=count, candidates=True).get("candidates", [{}])
            position = requests.index(winner["request"]) if winner["request"] in requests else 0
            settings = for_count[min(position, len(for_count) - 1)]
            request = {"work": work, "threads": count, "settings": settings}
            tried.append(attempt(label, process, request, rounds))
    winner = fastest(tried)
    chosen = winner["request"] if winner else requests[0]
    return Turn(label, process, chosen), tried


def attempt(label: str, process: PeerProcess, request: dict[str, Any], rounds: Rounds) -> dict[str, Any]:
    """Warm one candidate up, run it once, and return its request with its seconds or its error."""
    with rounds.lock.hold():
        answer = process.ask(**request, repeat=0)
    if "error" not in answer:
        answer = measure(Turn(label, process, request), rounds)
    result = {"request": request} | {key: answer[key] for key in ("seconds", "error") if key in answer}
    shown = result.get("error", result.get("seconds"))
    print(f"  try {request['work']} {label} {request}: {shown}", file=sys.stderr, flush=True)
    return result


def fastest(tried: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the try with the fewest seconds, or None when all failed."""
    finished = [one for one in tried if one.get("seconds")]
    return min(finished, key=lambda one: min(one["seconds"])) if finished else None
