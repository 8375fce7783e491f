"""How much of the machine something other than the measured process used while it was measured."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BUSY_FIELDS = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of /proc/stat
STEAL_FIELD = 7  # time that the hypervisor gave to other machines


@dataclass(frozen=True)
class Load:
    """Processor seconds at one moment: of the whole machine, stolen from it, and of one process."""

    clock: float
    busy: float
    stolen: float
    own: float

    @classmethod
    def now(cls, own_seconds: Callable[[], float]) -> "Load":
        """Read the counters."""
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        busy = sum(fields[field] for field in BUSY_FIELDS) / TICKS_PER_SECOND
        return cls(time.monotonic(), busy, fields[STEAL_FIELD] / TICKS_PER_SECOND, own_seconds())

    def foreign_share(self, later: "Load") -> float:
        """Return the share of all cores, until `later`, that went to others or to the hypervisor."""
        others = later.busy - self.busy - (later.own - self.own) + later.stolen - self.stolen
        cores = os.cpu_count() or 1
        return max(0.0, others / (cores * max(later.clock - self.clock, 1e-9)))
