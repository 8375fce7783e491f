"""A trainer's process, seen from the comparison: start it, have it train some steps, end it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peers.load import Load
from peers.lock import MeasuringLock
from peers.process import cpu_seconds, family
from train_peers.data import INITIAL

HERE = Path(__file__).parent
REALTIME_PRIORITY = 50


class TrainerProcess:
    """torch (in the peers' environment) or weft (in this one) with one work and one configuration."""

    def __init__(self, peer: str, work: str, flags: list[str], peers: Path) -> None:
        models = peers / "models"
        python = sys.executable if peer == "weft" else str(peers / "main/bin/python")
        self.name = f"{peer} {' '.join(flags)}"
        command = [python, str(HERE / f"{peer}_trainer.py"), work, *flags]
        command += ["--model", str(models / INITIAL[work]), "--tokens", str(models / "tokens.npy")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(peers / "torch-cache")} | dict(os.environ)
        self.process = subprocess.Popen(command, text=True, env=caches, **pipes)  # type: ignore[call-overload]

    def ask(self, limit_s: float, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer, or what went wrong as `error`.

        A process that takes longer than `limit_s` is ended.
        """
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": self._last_words()}
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            self.end()
            return {"error": f"no answer within {limit_s:g} s"}
        line = self.process.stdout.readline()
        if not line:
            return {"error": self._last_words()}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        return "".join(self.process.stderr.read().strip().splitlines()[-1:])

    def warm_up(self, turn: "TurnRules") -> dict[str, Any]:
        """Train the first step, which loads and compiles, beside whatever else the machine does."""
        return self.ask(turn.limit_s, steps=1) | {"foreign_share": 0.0}

    def train(self, steps: int, turn: "TurnRules") -> dict[str, Any]:
        """Train `steps` steps undisturbed, and tell how much of the machine others used meanwhile."""
        return self.undisturbed(turn, steps=steps)

    def undisturbed(self, turn: "TurnRules", **request: Any) -> dict[str, Any]:
        """Return the answer to a request, and the share of the machine that others used meanwhile."""
        begin = time.perf_counter()
        with turn.lock.hold():
            if turn.is_realtime:
                set_realtime(family(self.process.pid), True)
            before = Load.now(self.cpu_seconds)
            answer = self.ask(turn.limit_s, **request)
            if "error" not in answer:
                answer["foreign_share"] = before.foreign_share(Load.now(self.cpu_seconds))
                if turn.is_realtime:
                    set_realtime(family(self.process.pid), False)
        if turn.rest:
            turn.lock.release()
            time.sleep(turn.rest * (time.perf_counter() - begin))
        return answer

    def cpu_seconds(self) -> float:
        """Return the processor time of the trainer and its other processes."""
        return sum(cpu_seconds(one) for one in family(self.process.pid))

    def end(self) -> None:
        """End the process and those it started, at once."""
        for pid in reversed(family(self.process.pid)):
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.stdout.read()
        self.process.wait()

    def __enter__(self) -> "TrainerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TurnRules:
    """How to keep a turn free of other work, how long to rest after it (a share of its length), and how many
    seconds an answer may take.
    """

    def __init__(self, lock: MeasuringLock, is_realtime: bool, rest: float, limit_s: float) -> None:
        self.lock = lock
        self.is_realtime = is_realtime
        self.rest = rest
        self.limit_s = limit_s


def set_realtime(pids: list[int], wanted: bool) -> None:
    """Give all threads of these processes real-time priority, or take it back."""
    policy, priority = (os.SCHED_FIFO, REALTIME_PRIORITY) if wanted else (os.SCHED_OTHER, 0)
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))
