"""weft alone under several conditions: more threads, busy cores, its memory, its use of an idle machine."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.lock import MeasuringLock
from peers.process import Contender, PeerProcess
from peers.rounds import Rounds, Series, Turn, ratio, take_turns

IDLE_SECONDS = 5.0
BUSY_LOOP = "while True: pass"


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes computing for as long as the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def by_threads(
    contender: Contender, works: Sequence[str], threads: Sequence[int], rounds: Rounds
) -> dict[str, Any]:
    """Return each work's series for each number of threads, and the speed-up over the first number.

    Every number of threads has a process of its own, so that no turn pays for making a pool.
    """
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        processes = {count: stack.enter_context(PeerProcess(contender)) for count in threads}
        for work in works:
            turns = [
                Turn(str(count), process, {"work": work, "threads": count})
                for count, process in processes.items()
            ]
            series = take_turns(turns, rounds)
            base = series[str(threads[0])]
            result[work] = {
                "series": {label: one.summary() for label, one in series.items()},
                "speed_up": {label: ratio(one, base) for label, one in series.items()},
                "same_tokens": same_tokens(list(series.values())),
            }
    return result


def same_tokens(series: Sequence[Series]) -> bool:
    """Return whether all series ended with the same tokens."""
    return all(one.answer.get("token_ids") == series[0].answer.get("token_ids") for one in series)


def contended(contender: Contender, works: Sequence[str], threads: int, rounds: Rounds) -> dict[str, Any]:
    """Return what one thread and all threads reach while a busy process runs for every thread."""
    with busy_processes(threads):
        return by_threads(contender, works, [1, threads], replace(rounds, foreign_limit=None))


def memory_and_idleness(contender: Contender, threads: int, lock: MeasuringLock) -> dict[str, Any]:
    """Return the resident bytes of a fresh process after each work, and its processor use when idle."""
    file_bytes = Path(contender.model).stat().st_size
    result: dict[str, Any] = {"file_bytes": file_bytes, "threads": threads, "works": {}}
    with PeerProcess(contender) as process, lock.hold():
        for work in ("decode1", "prompt512", "batch64"):
            answer = process.ask(work=work, threads=threads, repeat=1)
            if "error" in answer:
                return result | {"error": answer["error"]}
            rss = answer["rss_bytes"]
            result["works"][work] = {"rss_bytes": rss, "rss_over_file_bytes": rss - file_bytes}
        time.sleep(1.0)
        before = process.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        result["idle_cpu_share"] = (process.cpu_seconds() - before) / IDLE_SECONDS
    return result
