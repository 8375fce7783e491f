"""Take turns among engines, and turn their measurements into medians, spreads and ratios."""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from peers.load import Load
from peers.lock import MeasuringLock
from peers.process import PeerProcess

SETTLE_SECONDS = 0.5  # other engines' waiting threads spin for up to 0.2 s after their last work


@dataclass
class Series:
    """All repetitions of one work by one engine with one number of threads."""

    label: str
    seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    foreign_shares: list[float] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)

    def add(self, answer: dict[str, Any]) -> None:
        """Take in one answer of the engine, an error included."""
        self.answer = answer
        self.seconds += answer.get("seconds", [])
        self.first_seconds += answer.get("first_seconds", [])
        self.foreign_shares += [answer["foreign_share"]] if "foreign_share" in answer else []

    @property
    def failed(self) -> bool:
        """True if the engine could not do the work."""
        return "error" in self.answer or not self.seconds

    def decode_seconds(self) -> list[float]:
        """Return the seconds of each repetition without its prompt, where the work reports them."""
        if not self.first_seconds:
            return self.seconds
        return [total - first for total, first in zip(self.seconds, self.first_seconds, strict=True)]

    def summary(self) -> dict[str, Any]:
        """Return the median, spread and rate; the spread is (slowest - fastest) / median."""
        if self.failed:
            return {"label": self.label, "error": self.answer.get("error", "never ran")}
        seconds = self.decode_seconds()
        median = statistics.median(seconds)
        counted = self.answer["new_tokens"] - (1 if self.first_seconds else 0)
        if self.answer["work"] == "prompt512":
            counted = self.answer["prompt_tokens"]
        kept = {key: self.answer[key] for key in ("threads", "settings", "versions", "rss_bytes")}
        return {
            "label": self.label,
            "median_seconds": median,
            "spread": (max(seconds) - min(seconds)) / median,
            "tokens_per_second": counted / median,
            "end_to_end_tokens_per_second": self.answer["new_tokens"] / statistics.median(self.seconds),
            "seconds": self.seconds,
            "first_seconds": self.first_seconds,
            "foreign_shares": self.foreign_shares,
        } | kept


def ratio(ours: Series, theirs: Series) -> float | None:
    """Return how many times faster `ours` is: the median over rounds, since a round shares its minutes."""
    if ours.failed or theirs.failed:
        return None
    pairs = zip(theirs.decode_seconds(), ours.decode_seconds(), strict=False)
    return statistics.median(their_seconds / our_seconds for their_seconds, our_seconds in pairs)


@dataclass(frozen=True)
class Turn:
    """One engine's part in a round: whom to ask for what, and under which label to keep it."""

    label: str
    process: PeerProcess
    request: dict[str, Any]


@dataclass(frozen=True)
class Rounds:
    """How to measure: how many rounds, and how to keep them free of other work on the machine."""

    count: int = 5
    lock: MeasuringLock = field(default_factory=MeasuringLock)
    foreign_limit: float | None = 0.04
    attempts: int = 3


def take_turns(turns: Sequence[Turn], rounds: Rounds) -> dict[str, Series]:
    """Run every turn once a round, in order, and return the series by label; a failed engine sits out."""
    series = {turn.label: Series(turn.label) for turn in turns}
    for turn in turns:
        with rounds.lock.hold():
            series[turn.label].add(turn.process.ask(**turn.request, repeat=0))
    for number in range(rounds.count):
        for turn in turns:
            if "error" not in series[turn.label].answer:
                answer = measure(turn, rounds)
                series[turn.label].add(answer)
                progress(turn.label, number, answer)
    return series


def measure(turn: Turn, rounds: Rounds) -> dict[str, Any]:
    """Run a turn, again while others used more than allowed; return the least disturbed run."""
    best: dict[str, Any] = {}
    for _ in range(rounds.attempts):
        time.sleep(SETTLE_SECONDS)
        with rounds.lock.hold():
            before = Load.now(turn.process.cpu_seconds)
            answer = turn.process.ask(**turn.request, repeat=1)
            if "error" in answer:
                return answer
            share = before.foreign_share(Load.now(turn.process.cpu_seconds))
        if not best or share < best["foreign_share"]:
            best = answer | {"foreign_share": share}
        if rounds.foreign_limit is None or share <= rounds.foreign_limit:
            break
    return best


def progress(label: str, number: int, answer: dict[str, Any]) -> None:
    """Say on standard error what a turn measured."""
    shown = answer.get("error") or f"{answer['seconds'][0]:.3f} s, others {answer['foreign_share']:.1%}"
    print(f"  round {number + 1} {answer.get('work', '')} {label}: {shown}", file=sys.stderr, flush=True)
