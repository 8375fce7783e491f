"""Compare weft with other engines on this machine, in turns within the same minutes, with validated results.

    WEFT_PEERS_DIR=DIR python benchmarks/compare.py --rounds 5 --json results.json

Every engine is a process of its own that stays loaded. First each tries the settings and numbers of threads
that may be its best; then, in each round, every engine does the work once with its winner.
Rates are medians over rounds, ratios are medians of the rounds' own ratios, the spread is
(slowest - fastest) / median. Greedy tokens are judged by float32 transformers. The last line printed is the
whole result as JSON.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from peers import conditions
from peers.contenders import GROUPS, MODEL, WORKS, Places
from peers.limits import limit_rates
from peers.lock import MeasuringLock
from peers.process import Contender, PeerProcess
from peers.rounds import Rounds, Series, Turn, ratio, take_turns
from peers.tables import print_group, print_memory, print_threads
from peers.tuning import best_turn
from peers.validation import validate

PARTS = ("peers", "scaling", "contended", "memory")


def start_all(contenders: Sequence[Contender], stack: ExitStack) -> dict[str, PeerProcess]:
    """Start the contenders that are installed and name the others."""
    running = {}
    for contender in contenders:
        if missing := contender.missing():
            print(f"left out {contender.name}: {missing} is not there", file=sys.stderr)
        else:
            running[contender.name] = stack.enter_context(PeerProcess(contender))
    return running


def compare_group(places: Places, group: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the comparison of one group of contenders over all works."""
    with ExitStack() as stack:
        processes = start_all(choose(GROUPS[group](places), options.only), stack)
        series: dict[str, dict[str, Series]] = {}
        tried: dict[str, Any] = {}
        for work in options.works:
            turns, tried[work] = tuned_turns(processes, work, options)
            series[work] = take_turns(turns, rounds_of(options))
        options.measuring_lock.release()
    oracle = None if places.oracle().missing() or options.no_oracle else PeerProcess(places.oracle())
    try:
        limits = group_limits(places, group, options)
        reports = {work: report_work(work, series[work], oracle) for work in options.works}
        for work, report in reports.items():
            add_share(report, limits["tokens_per_second"][work])
        works = {work: report | {"tried": tried.get(work)} for work, report in reports.items()}
        return {"works": works, "limits": limits}
    finally:
        if oracle is not None:
            oracle.close()


def group_limits(places: Places, group: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what this machine allows for the weights that weft has in a group."""
    model = next(one.model for one in GROUPS[group](places) if one.name == "weft")
    return limit_rates(model, options.works, max(options.threads), options.measuring_lock)


def add_share(report: dict[str, Any], limit: float) -> None:
    """Write into a report the limit, and the share of it that weft reached."""
    ours = report["engines"].get("weft", {})
    report["limit_tokens_per_second"] = limit
    report["share_of_limit"] = ours["tokens_per_second"] / limit if "tokens_per_second" in ours else None


def tuned_turns(
    processes: dict[str, PeerProcess], work: str, options: argparse.Namespace
) -> tuple[list[Turn], dict[str, Any]]:
    """Return every engine's turn at its best, and by engine what was tried."""
    turns, tried = [], {}
    for name, process in processes.items():
        if options.quick:
            turns.append(Turn(name, process, {"work": work, "threads": max(options.threads)}))
            continue
        turn, tried[name] = best_turn(name, process, work, options.threads, rounds_of(options))
        turns.append(turn)
    return turns, tried


def rounds_of(options: argparse.Namespace) -> Rounds:
    """Return how to measure."""
    return Rounds(options.rounds, options.measuring_lock, options.foreign_limit, options.attempts)


def choose(contenders: Sequence[Contender], names: Sequence[str]) -> list[Contender]:
    """Return the contenders with one of these names in theirs, or all when none is given."""
    return [one for one in contenders if not names or any(name in one.name for name in names)]


def report_work(work: str, series: dict[str, Series], oracle: PeerProcess | None) -> dict[str, Any]:
    """Return the summaries, weft's ratio to every peer and to the best one, and the validation."""
    ours = series.get("weft", Series("weft"))
    peers = [one for label, one in series.items() if label != "weft" and not one.failed]
    ratios = {one.label: ratio(ours, one) for one in peers}
    known = [value for value in ratios.values() if value is not None]
    return {
        "engines": {label: one.summary() for label, one in series.items()},
        "times_faster": ratios,
        "times_faster_than_best": min(known) if known else None,
        "validation": validate(work, ours, list(series.values()), oracle),
    }


def machine() -> dict[str, Any]:
    """Return what identifies this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {name.strip(): value.strip() for name, value in fields.items()}
    simd = [
        flag for flag in ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16") if flag in names["flags"]
    ]
    return {
        "cpu": f"{names['model name']} family {names['cpu family']} model {names['model']}",
        "simd": simd,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the chosen parts, print their tables, and return everything."""
    os.environ["WEFT_PEER_DRAFT_MAX"] = str(options.draft_max)
    places = Places.from_environment()
    four_bit = places.weft(f"{MODEL}.Q4_1.gguf")
    rounds = rounds_of(options)
    threads, most = sorted(options.threads), max(options.threads)
    command = " ".join(["python", *sys.argv])
    result: dict[str, Any] = {
        "benchmark": "compare",
        "machine": machine(),
        "command": command,
        "rounds": options.rounds,
        "tuned": not options.quick,
        "draft_max": options.draft_max,
    }
    if "peers" in options.parts:
        result["peers"] = {}
        for group in options.groups:
            result["peers"][group] = compare_group(places, group, options)
            print_group(group, result["peers"][group]["works"])
    if "scaling" in options.parts:
        result["scaling"] = conditions.by_threads(four_bit, options.works, threads, rounds)
        print_threads("threads", result["scaling"])
    if "contended" in options.parts:
        result["contended"] = conditions.contended(four_bit, options.works, most, rounds)
        print_threads(f"with {most} busy processes", result["contended"])
    if "memory" in options.parts:
        result["memory"] = conditions.memory_and_idleness(four_bit, most, options.measuring_lock)
        print_memory(result["memory"])
    return result


def parse() -> argparse.Namespace:
    """Return the options of the command line."""

    def words(choices: Sequence[str]) -> Any:
        def parse_words(text: str) -> list[str]:
            if unknown := set(text.split(",")) - set(choices):
                raise argparse.ArgumentTypeError(
                    f"expected some of {','.join(choices)}, got {','.join(unknown)}"
                )
            return text.split(",")

        return parse_words

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=words(PARTS), default=list(PARTS), help="default: all")
    parser.add_argument("--groups", type=words(tuple(GROUPS)), default=list(GROUPS), help="default: all")
    parser.add_argument("--works", type=words(WORKS), default=list(WORKS), help="default: all")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help="engines, by part of the name"
    )
    parser.add_argument(
        "--threads", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2]
    )
    parser.add_argument("--rounds", type=int, default=Rounds.count)
    parser.add_argument(
        "--foreign-limit", type=float, default=Rounds.foreign_limit, help="most of the machine others may use"
    )
    parser.add_argument("--attempts", type=int, default=Rounds.attempts, help="runs until one is undisturbed")
    parser.add_argument(
        "--quick", action="store_true", help="try nothing: the likeliest settings, the most threads"
    )
    parser.add_argument(
        "--draft-max", type=int, default=0, help="tokens that weft may guess ahead in a step; by default none"
    )
    parser.add_argument("--lock", type=Path, help="hold this file's lock around each measurement")
    parser.add_argument(
        "--no-oracle", action="store_true", help="do not judge tokens by float32 transformers"
    )
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    options = parser.parse_args()
    options.measuring_lock = MeasuringLock(options.lock)
    return options


def main() -> None:
    """Run the comparison."""
    options = parse()
    text = json.dumps(run(options))
    if options.json:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
