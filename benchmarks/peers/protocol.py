"""The interface that every benchmarked engine shares: JSON lines in, JSON lines out, one process an engine.

A request is `{"work": "decode1"|"batch64"|"prompt512", "threads": n, "repeat": n, "settings": {...}}`;
settings are those of the peer and default to its first candidate for the work; `repeat` 0 only warms up, and
`{"work": ..., "threads": n, "candidates": true}` lists what is worth trying. The answer holds the measured
seconds of every repetition, the token ids for validation, and versions. Processes live long, so that an
orchestrator can take turns among engines within the same minutes. `{"work": "quit"}` or the end of the input
ends one.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Protocol, TextIO

from prompts import WORKS, Work

Settings = dict[str, Any]
Tokens = list[list[int]]


class Peer(Protocol):
    """An engine that generates greedily from token ids and ignores end-of-text."""

    name: str
    packages: tuple[str, ...]

    def candidates(self, work: str, threads: int) -> list[Settings]:
        """Return the settings that may be fastest for `work` on `threads` threads, the likeliest first."""

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, threads: int, settings: Settings
    ) -> Tokens:
        """Generate exactly `max_tokens` greedy tokens after each prompt, with no cache kept between calls."""


def resident_bytes(pid: int | str = "self") -> int:
    """Return the resident memory of a process in bytes."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmRSS"].split()[0]) * 1024


def peak_bytes() -> int:
    """Return the largest resident memory that this process had."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) * 1024


def timed(call: Callable[[], Tokens]) -> tuple[float, Tokens]:
    """Return the seconds that `call` took, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def check(tokens: Tokens, work: Work) -> None:
    """Raise ValueError unless there are as many tokens as the work asks for."""
    lengths = {len(row) for row in tokens}
    if len(tokens) != len(work.prompts) or lengths != {work.max_tokens}:
        raise ValueError(
            f"expected {len(work.prompts)} rows of {work.max_tokens} tokens, got {len(tokens)} rows "
            f"of {sorted(lengths)}: the engine stopped early or its settings cut the batch"
        )


class Session:
    """Answers requests for one peer, and warms up each new kind of request once."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.warm: set[str] = set()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the work of `request` as often as it says, and return the measurements."""
        name, threads, repeat = request["work"], int(request["threads"]), int(request.get("repeat", 1))
        candidates = self.peer.candidates(name, threads)
        if request.get("candidates"):
            return {"candidates": candidates}
        settings = candidates[0] | request.get("settings", {})
        work = WORKS[name]
        self.warm_up(name, work, threads, settings)
        seconds, first_seconds, tokens = [], [], []
        for _ in range(repeat):
            if name == "decode1":
                first_seconds.append(self.run(work, 1, threads, settings)[0])
            elapsed, tokens = self.run(work, work.max_tokens, threads, settings)
            seconds.append(elapsed)
        if repeat == 0:
            return self.describe(name, threads, settings)
        check(tokens, work)
        return (
            self.describe(name, threads, settings)
            | rates(work, seconds, first_seconds)
            | {"token_ids": tokens}
        )

    def run(self, work: Work, max_tokens: int, threads: int, settings: Settings) -> tuple[float, Tokens]:
        """Generate once, and return the seconds and the tokens."""
        return timed(lambda: self.peer.generate(work.prompts, max_tokens, threads, settings))

    def warm_up(self, name: str, work: Work, threads: int, settings: Settings) -> None:
        """Run the work once, untimed, if this process has not done it with these settings yet.

        A batch is warm after a few tokens, unless it is compiled for its length.
        """
        key = json.dumps([name, threads, settings], sort_keys=True)
        if key not in self.warm:
            whole = name == "decode1" or settings.get("compile")
            self.run(work, work.max_tokens if whole else min(8, work.max_tokens), threads, settings)
            self.warm.add(key)

    def describe(self, name: str, threads: int, settings: Settings) -> dict[str, Any]:
        """Return what was run, and by which versions."""
        versions = {package: version(package) for package in self.peer.packages}
        return {
            "peer": self.peer.name,
            "work": name,
            "threads": threads,
            "settings": settings,
            "versions": versions | {"python": platform.python_version()},
            "rss_bytes": resident_bytes(),
        }


def rates(work: Work, seconds: list[float], first_seconds: list[float]) -> dict[str, Any]:
    """Return the counts, the seconds, and the median rates of a work.

    `tokens_per_second` counts generated tokens end to end (for prompts: the prompt's tokens);
    `decode_tokens_per_second` leaves out the prompt: it takes off the seconds of a run that made one token.
    """
    counted = work.new_tokens if work.max_tokens > 1 else work.prompt_tokens
    result: dict[str, Any] = {
        "prompt_tokens": work.prompt_tokens,
        "new_tokens": work.new_tokens,
        "seconds": seconds,
        "tokens_per_second": counted / statistics.median(seconds),
    }
    if first_seconds:
        decode = statistics.median(a - b for a, b in zip(seconds, first_seconds, strict=True))
        result["first_seconds"] = first_seconds
        result["decode_tokens_per_second"] = (work.new_tokens - len(work.prompts)) / decode
    return result


def private_stdout() -> TextIO:
    """Return the real standard output, and send whatever libraries print there to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def serve(make_peer: Callable[[str], Peer]) -> None:
    """Load the model named on the command line and answer requests until the input ends."""
    parser = argparse.ArgumentParser(description="Answer benchmark requests: JSON lines in, JSON lines out.")
    parser.add_argument("--model", required=True, help="the model file or folder this engine reads")
    answers = private_stdout()
    session = Session(make_peer(parser.parse_args().model))
    for line in sys.stdin:
        request = json.loads(line)
        if request["work"] == "quit":
            return
        try:
            answer = session.answer(request)
        except Exception as error:  # an engine's failure is a result of the benchmark, not its end
            answer = {
                "peer": session.peer.name,
                "work": request["work"],
                "error": f"{type(error).__name__}: {error}",
            }
        print(json.dumps(answer), file=answers, flush=True)
