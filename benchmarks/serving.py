"""Requests a second that servers answer in time, beside each other: the same machine, minutes and load.

    WEFT_PEERS_DIR=DIR python benchmarks/serving.py --json results.json [--only weft --only llama-server]

The load is guidellm's (in DIR/guidellm): prompts of 64 to 512 and answers of 64 to 128 tokens, at random
moments at a given rate. A rate is held where no request fails, the 95th percentile of the time to the first
token is within 2 s, and that of the mean time between an answer's tokens within 100 ms. Rates grow by a
quarter. Servers take turns, a rate each, until each has held one and failed the next. The last line is JSON.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compare import machine
from peers.contenders import MODEL, Places
from peers.lock import MeasuringLock
from peers.servers import ServerPeer, running, servers

FIRST_TOKEN_MS = 2000.0
BETWEEN_TOKENS_MS = 100.0
STEP = 1.25
DATA = (
    "kind=synthetic_text,prompt_tokens=288,prompt_tokens_stdev=150,prompt_tokens_min=64,prompt_tokens_max=512,"
    "output_tokens=96,output_tokens_stdev=24,output_tokens_min=64,output_tokens_max=128"
)


@dataclass
class Search:
    """How far a server has come: the rates it held and failed."""

    peer: ServerPeer
    url: str
    probes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def held(self) -> float:
        """The highest rate that was held."""
        return max((probe["rate"] for probe in self.probes if probe["held"]), default=0.0)

    @property
    def next_rate(self) -> float | None:
        """The rate to try next; None when the limit is known."""
        failed = min((probe["rate"] for probe in self.probes if not probe["held"]), default=None)
        if not self.probes:
            return self.peer.first_rate
        if failed is None:
            return self.held * STEP
        if not self.held:
            return failed / STEP if failed > 0.05 else None
        return None


def probe(places: Places, search: Search, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """What came of so many seconds of requests at `rate`."""
    count = max(10, round(rate * seconds))
    longest = 3 * max(seconds, count / rate)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [
            str(places.peers / "guidellm" / "bin" / "guidellm"),
            "run",
            *(
                "--backend",
                f"kind=openai_http,target={search.url},request_format=/v1/completions,http2=false,"
                "validate_backend=false",
            ),
            *("--profile", f"kind=poisson,rate={rate}"),
            *("--constraint", f"kind=max_requests,count={count}"),
            *("--constraint", f"kind=max_duration,seconds={longest:g}"),
            *("--tokenizer", f"kind=hf_auto,model={places.models / MODEL}"),
            *("--data", DATA, "--seed", f"kind=static,value={seed}"),
            *("--output", f"kind=json,path={out}", "--disable-console"),
        ]
        subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=sys.stderr)
        report = json.loads(out.read_text())
    return {"rate": rate, **judged(report["benchmarks"][0], count)}


def judged(benchmark: dict[str, Any], count: int) -> dict[str, Any]:
    """The facts of a run, and whether the rate was held."""
    metrics = benchmark["metrics"]

    def percentile(name: str, which: str) -> float:
        told = metrics[name]["successful"]
        return round(told["median"] if which == "median" else told["percentiles"][which], 1)

    done = metrics["request_totals"]["successful"]
    facts = {
        "requests": count,
        "answered": done,
        "first_token_ms": {which: percentile("time_to_first_token_ms", which) for which in ("median", "p95")},
        "between_tokens_ms": {
            which: percentile("inter_token_latency_ms", which) for which in ("median", "p95")
        },
        "requests_per_s": round(metrics["requests_per_second"]["successful"]["mean"], 3),
        "answer_tokens_per_s": round(metrics["output_tokens_per_second"]["successful"]["mean"], 1),
        "answer_tokens": round(metrics["output_token_count"]["successful"]["mean"], 1),
        "prompt_tokens": round(metrics["prompt_token_count"]["successful"]["mean"], 1),
    }
    in_time = (
        facts["first_token_ms"]["p95"] <= FIRST_TOKEN_MS
        and facts["between_tokens_ms"]["p95"] <= BETWEEN_TOKENS_MS
    )
    return {**facts, "held": bool(done == count and in_time)}


def table(searches: list[Search]) -> list[dict[str, Any]]:
    """A row for each server, the best peer's rate as the measure of weft's."""
    rows = [
        {"server": search.peer.name, "requests_per_s_held": search.held, "probes": search.probes}
        for search in searches
    ]
    for row in rows:
        print(f"{row['server']:24} {row['requests_per_s_held']:6.2f} requests/s")
    return rows


def main() -> None:
    """Starts the servers, lets them take turns, prints what each held."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="of requests in one probe")
    parser.add_argument("--turns", type=int, default=20, help="most probes of a server")
    parser.add_argument("--only", action="append", help="begin of a server's name; may be repeated")
    parser.add_argument("--lock", type=Path, help="file that measurements on this machine lock")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with this program
    places = Places.from_environment()
    lock = MeasuringLock(asked.lock)
    searches: list[Search] = []
    with ExitStack() as stack:
        for peer in servers(places, asked.threads):
            if asked.only and not peer.name.startswith(tuple(asked.only)):
                continue
            if missing := peer.missing():
                print(f"left out {peer.name}: {missing} is not there", file=sys.stderr)
                continue
            log = Path(tempfile.gettempdir()) / f"serving-{peer.name.replace(' ', '-')}.log"
            try:
                searches.append(Search(peer, stack.enter_context(running(peer, log))))
            except RuntimeError as error:
                print(f"left out {peer.name}: {error}; {log} says more", file=sys.stderr)
        for turn in range(asked.turns):
            trying = [search for search in searches if search.next_rate is not None]
            for search in trying:
                rate = search.next_rate
                assert rate is not None
                with lock.hold():
                    search.probes.append(probe(places, search, rate, asked.seconds, turn))
                lock.release()
                print(search.peer.name, json.dumps(search.probes[-1]), file=sys.stderr, flush=True)
        rows = table(searches)
    result = {
        "benchmark": "serving",
        "machine": machine(),
        "command": " ".join(["python", *sys.argv]),
        "servers": rows,
    }
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
