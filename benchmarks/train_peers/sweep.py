"""Find torch's best configuration for each training work on this machine.

    python benchmarks/train_peers/sweep.py --peers DIRECTORY [--works full,lora] [--json FILE]

DIRECTORY is what benchmarks/peers/setup.sh filled. Each configuration is a process of its own, warmed up
for one step and measured for some; one whose warm step is far slower than the best so far is not repeated.
The last line printed is the whole result as JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from peers.load import Load  # noqa: E402 (this file is run as a script)
from peers.lock import MeasuringLock  # noqa: E402
from peers.process import cpu_seconds, family  # noqa: E402

CONFIGURATIONS = {
    "float32": ["--threads", "2"],
    "float32 compiled": ["--threads", "2", "--compile"],
    "float32, 2 processes": ["--threads", "1", "--processes", "2"],
    "bf16 autocast": ["--threads", "2", "--precision", "bf16"],
    "bf16 autocast compiled": ["--threads", "2", "--precision", "bf16", "--compile"],
    "float32, 1 thread": ["--threads", "1"],
}
STEPS = {"full": 3, "lora": 3, "gpt2": 5, "lstm": 4, "perceptron": 400}
WORKS = ("full", "lora", "gpt2", "lstm", "perceptron")
HOPELESS = 1.8  # times the best configuration's step, from which on one more measurement is a waste


def measure(
    work: str, flags: list[str], best: float | None, options: argparse.Namespace, lock: MeasuringLock
) -> dict[str, Any]:
    """Return the answer of one configuration, or its error."""
    models = options.peers / "models"
    command = [str(options.peers / "main/bin/python"), str(HERE / "torch_trainer.py"), work, *flags]
    command += ["--model", str(models / "SmolLM2-135M-Instruct"), "--tokens", str(models / "tokens.npy")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        answer: dict[str, Any] = {}
        steps = max(1, STEPS[work] // 20)
        for number in (1, steps, STEPS[work]):  # compile, then look, then measure
            if number == STEPS[work] and best and statistics.median(answer["seconds"]) > HOPELESS * best:
                break
            with lock.share() if number == 1 and not answer else lock.hold():
                before = Load.now(lambda: own_seconds(process.pid))
                process.stdin.write(json.dumps({"steps": number}) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    return {"error": process.stderr.read().strip().splitlines()[-1:]}
                share = before.foreign_share(Load.now(lambda: own_seconds(process.pid)))
            answer = json.loads(line) | {"foreign_share": share}
        process.stdin.close()
        process.stdout.read()
    return answer


def own_seconds(pid: int) -> float:
    """Return the processor time of a trainer and its other processes."""
    return sum(cpu_seconds(one) for one in family(pid))


def main() -> None:
    """Measure, print a table, and print everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--only", help="configurations, by name, with ; between them; default: all")
    parser.add_argument("--lock", type=Path, help="hold this file's lock around each measurement")
    parser.add_argument("--json", type=Path, help="write the result to this file, too, as it grows")
    options = parser.parse_args()
    lock = MeasuringLock(options.lock)
    result: dict[str, Any] = {"benchmark": "torch training", "command": " ".join(sys.argv), "works": {}}
    for work in options.works.split(","):
        found: dict[str, Any] = {}
        result["works"][work] = found
        for name in CONFIGURATIONS if options.only is None else options.only.split(";"):
            medians = [statistics.median(one["seconds"]) for one in found.values() if "seconds" in one]
            found[name] = measure(work, CONFIGURATIONS[name], min(medians, default=None), options, lock)
            if options.json:
                options.json.write_text(json.dumps(result) + "\n")
            print(work, name, *row(found[name]), sep="\t", flush=True)
    lock.release()
    print(json.dumps(result))


def row(answer: dict[str, Any]) -> list[str]:
    """Return what is shown of an answer."""
    if "error" in answer:
        return [f"failed: {answer['error']}"]
    losses = answer["losses"]
    return [
        f"{answer['per_second']:.1f}/s",
        f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}",
        f"{answer['peak_bytes'] / 1e6:.0f} MB",
        f"others {answer['foreign_share']:.0%}",
    ]


if __name__ == "__main__":
    main()
