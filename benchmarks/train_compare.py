"""Compare weft's training with torch's: the same model, data and steps, in turns.

    WEFT_PEERS_DIR=DIRECTORY python benchmarks/train_compare.py [--works full,lora] [--json FILE]

DIRECTORY is what benchmarks/peers/setup.sh filled. For each work torch's configurations are tried first, each
a process of its own; then the fastest (--contenders says how many) and weft, with all threads and with one,
take turns. Losses are compared step by step with those of torch in float32, or of its first
configuration where that takes no part. The last line printed is the whole result as JSON.

What torch compiles stays in DIRECTORY/torch-cache (or TORCHINDUCTOR_CACHE_DIR): compiling takes minutes, to
start again with the caches filled seconds. --only-compile fills them, so that a comparison need not wait.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compare import machine
from peers.lock import MeasuringLock
from train_peers.data import INITIAL, SHAPES
from train_peers.process import TrainerProcess, TurnRules

TORCH = {
    "float32": ["--threads", "2"],
    "float32 compiled": ["--threads", "2", "--compile"],
    "float32, 2 processes": ["--threads", "1", "--processes", "2"],
    "bf16 autocast": ["--threads", "2", "--precision", "bf16"],
    "bf16 autocast compiled": ["--threads", "2", "--precision", "bf16", "--compile"],
    "bf16 autocast, 2 processes": ["--threads", "1", "--precision", "bf16", "--processes", "2"],
}
WEFT = {
    "weft": ["--threads", "2"],
    "weft, 1 thread": ["--threads", "1"],
}
STEPS = {"full": 1, "lora": 1, "gpt2": 2, "lstm": 2, "perceptron": 400}  # of a turn
EXACT = "float32"  # whose losses the others' are compared with, where it takes part


def main() -> None:
    """Run the comparison."""
    options = parse()
    make_initial_models(options.peers)
    result: dict[str, Any] = {
        "benchmark": "training",
        "machine": machine(),
        "command": " ".join(["python", *sys.argv]),
        "rounds": options.rounds,
        "works": {},
    }
    for work in options.works:
        if options.only_compile:
            fill_caches(work, options)
            continue
        result["works"][work] = compare(work, options)
        print_work(work, result["works"][work])
        if options.json:
            options.json.write_text(json.dumps(result) + "\n")
    if not options.only_compile:
        print(json.dumps(result))


def configurations(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return torch's configurations that take part, and their flags."""
    return {name: flags for name, flags in TORCH.items() if not options.only or name in options.only}


def fill_caches(work: str, options: argparse.Namespace) -> None:
    """Have torch compile a work in each configuration that compiles, and say how long a step then took."""
    for name, flags in configurations(options).items():
        if "--compile" not in flags:
            continue
        with TrainerProcess("torch", work, flags, options.peers) as process:
            found = process.warm_up(options.turn)
        took = found["error"] if "error" in found else f"first step {found['seconds'][0]:.0f} s"
        print(f"{work:10} {name:32} {took}", flush=True)


def compare(work: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what every contender reached at one work."""
    chosen = configurations(options)
    tried = {}
    if len(chosen) > options.contenders:  # else all of them take turns
        tried = {name: try_once(work, flags, options) for name, flags in chosen.items()}
        rates = {name: found["per_second"] for name, found in tried.items() if "per_second" in found}
        chosen = {name: chosen[name] for name in sorted(rates, key=rates.__getitem__)[-options.contenders :]}
    if not chosen:
        return {"tried": tried, "turns": {}}
    turns, limit = take_turns(work, {f"torch {name}": flags for name, flags in chosen.items()}, options)
    rates = {name: turns[f"torch {name}"].get("per_second", 0.0) for name in chosen}
    best = max(rates, key=lambda name: rates[name])
    report = {"tried": tried, "best": best, "turns": turns, **limit}
    ours, theirs = turns["weft"], turns[f"torch {best}"]
    if "error" in theirs:
        return report
    answers = {f"torch {name}": one for name, one in tried.items()}
    answers |= {name: one for name, one in turns.items() if name not in answers}
    return report | {
        "times_faster": ratio(ours, theirs),
        "speed_up": ratio(ours, turns["weft, 1 thread"]),
        "memory_share": ours["peak_bytes"] / theirs["peak_bytes"],
        "share_of_limit": ours["per_second"] / limit["limit_per_second"],
        "losses": compare_losses(answers.get(f"torch {EXACT}") or next(iter(answers.values())), answers),
    }


def try_once(work: str, flags: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return one turn of a configuration of torch, after a step that warms it up."""
    with TrainerProcess("torch", work, flags, options.peers) as process:
        answers = [process.warm_up(options.turn)]
        if "error" not in answers[0]:
            answers.append(process.train(STEPS[work], options.turn))
        found = join(answers)
    say(f"{work} {process.name}: {found}")
    return found


def take_turns(
    work: str, torch_flags: dict[str, list[str]], options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all turns of torch at its best and of weft, and what this machine allows."""
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(TrainerProcess(peer, work, flags, options.peers))
            for peer, all_flags in (("torch", torch_flags), ("weft", WEFT))
            for name, flags in all_flags.items()
        }
        answers = {name: [process.warm_up(options.turn)] for name, process in processes.items()}
        for number in range(options.rounds):
            for name, process in processes.items():
                answers[name].append(process.train(STEPS[work], options.turn))
                say(f"round {number + 1} {work} {name}: {answers[name][-1]}")
        limit = processes["weft"].undisturbed(options.turn, limit=True)
    limit.pop("foreign_share", None)
    return {name: join(found) for name, found in answers.items()}, limit


def say(text: str) -> None:
    """Tell on standard error how far the comparison is."""
    print(f"  {text}"[:400], file=sys.stderr, flush=True)


def join(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a warm-up step and the turns after it as one: all losses, and the turns' own seconds."""
    if failed := [one for one in answers if "error" in one]:
        return failed[0]
    turns = answers[1:]
    seconds = [one for turn in turns for one in turn["seconds"]]
    per_step = answers[-1]["per_second"] * statistics.median(answers[-1]["seconds"])
    return answers[-1] | {
        "seconds": seconds,
        "losses": [loss for one in answers for loss in one["losses"]],
        "per_second": per_step / statistics.median(seconds),
        "turn_seconds": [statistics.median(turn["seconds"]) for turn in turns],
        "foreign_share": max(turn["foreign_share"] for turn in turns),
        "peak_bytes": max(one["peak_bytes"] for one in answers),
    }


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Return how many times faster `ours` is: the median over rounds, since a round shares its minutes."""
    pairs = zip(ours["turn_seconds"], theirs["turn_seconds"], strict=True)
    return statistics.median(their_seconds / our_seconds for our_seconds, their_seconds in pairs)


def compare_losses(exact: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return by contender how far its losses lie from those in float32, relatively, over how many steps."""
    found = {}
    for name, other in others.items():
        pairs = list(zip(exact.get("losses", []), other.get("losses", []), strict=False))
        if pairs:
            found[name] = {"steps": len(pairs), "largest": max(abs(b / a - 1) for a, b in pairs)}
    return found


def print_work(work: str, report: dict[str, Any]) -> None:
    """Print a table of one work."""
    rows = {f"torch {name} (once)": one for name, one in report["tried"].items()} | report["turns"]
    for name, found in rows.items():
        if "error" in found:
            print(f"{work:10} {name:32} failed: {found['error']}")
            continue
        away = report.get("losses", {}).get(name.removesuffix(" (once)"), {}).get("largest")
        losses = "" if away is None else f"  losses within {away:.1e}"
        print(
            f"{work:10} {name:32} {found['per_second']:12,.1f}/s  {found['peak_bytes'] / 1e6:8,.0f} MB  "
            f"others {found['foreign_share']:.0%}{losses}"
        )
    if "times_faster" in report:
        print(
            f"{work:10} weft is {report['times_faster']:.2f} x torch {report['best']}; 2 threads "
            f"{report['speed_up']:.2f} x 1; memory {report['memory_share']:.2f} x; "
            f"{report['share_of_limit']:.0%} of the limit",
            flush=True,
        )


def make_initial_models(peers: Path) -> None:
    """Write the models that training from scratch begins from, unless they are there."""
    if not all((peers / "models" / folder).is_dir() for folder in INITIAL.values()):
        script = Path(__file__).parent / "train_peers/initial_models.py"
        subprocess.run([str(peers / "main/bin/python"), str(script), str(peers / "models")], check=True)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--works", type=lambda text: text.split(","), default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(";"), help="torch's configurations, by name")
    parser.add_argument("--contenders", type=int, default=1, help="torch's fastest that take turns with weft")
    parser.add_argument("--only-compile", action="store_true", help="fill torch's caches, measure nothing")
    parser.add_argument("--lock", type=Path, help="hold this file's lock around each measurement")
    parser.add_argument(
        "--realtime", action="store_true", help="measure with real-time priority (needs the right to)"
    )
    parser.add_argument("--rest", type=float, default=0.0, help="rest after a turn, as a share of its length")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that an answer may take")
    parser.add_argument("--json", type=Path, help="write the result to this file, too, as it grows")
    options = parser.parse_args()
    if "WEFT_PEERS_DIR" not in os.environ:
        sys.exit("expected WEFT_PEERS_DIR, the directory that benchmarks/peers/setup.sh filled")
    options.peers = Path(os.environ["WEFT_PEERS_DIR"])
    options.turn = TurnRules(MeasuringLock(options.lock), options.realtime, options.rest, options.limit)
    return options


if __name__ == "__main__":
    main()
