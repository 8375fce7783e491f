"""A peer's process, seen from the orchestrator: start it, ask it for measurements, end it."""

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contender:
    """An engine with a model: what is started, and under which name it is reported."""

    name: str
    python: str
    script: str
    model: str

    def missing(self) -> str | None:
        """Return what has to be made before this contender can run, or None."""
        for path in (self.python, self.model.partition("@")[0]):
            if not Path(path).exists():
                return path
        return None


class PeerProcess:
    """A running contender; requests are answered one at a time."""

    def __init__(self, contender: Contender, log: Path | None = None) -> None:
        self.contender = contender
        command = [contender.python, str(HERE / contender.script), "--model", contender.model]
        with open(log or os.devnull, "ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer; an engine that fails answers with an `error` field."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"{self.contender.name} ended with status {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def cpu_seconds(self) -> float:
        """Return the processor time that all threads of the process and of its descendants have used."""
        return sum(cpu_seconds(pid) for pid in family(self.pid))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def family(pid: int) -> list[int]:
    """Return a process and its living descendants.

    By the parent that each process names: a process's own list of its children may leave some out while
    others come and go.
    """
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            children.setdefault(int(stat_fields(int(folder.name))[1]), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def stat_fields(pid: int) -> list[str]:
    """Return what the system says of a process after its name: its state, its parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that all threads of one process have used."""
    after_name = stat_fields(pid)
    return (int(after_name[11]) + int(after_name[12])) / CLOCK_TICKS_PER_SECOND
