"""What this machine grants: cores, quota and memory, and the number of threads that follows.

Read from Linux's files; what is not there limits nothing.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
_PERFORMANCE_SHARE = 0.75  # of the largest capacity, from which on a core counts as a fast one


@dataclass(frozen=True)
class Cores:
    """Processors that this process may use, as far as they matter for the number of threads.

    affinity: logical processors of the affinity mask. physical: cores that these belong to. fast: those of
    them that are not efficiency cores. quota: processors' worth of time that the control group grants, or
    None.
    """

    affinity: int
    physical: int
    fast: int
    quota: float | None

    @property
    def threads(self) -> int:
        """Threads to compute with: one for each fast core, no more than the quota pays for."""
        granted = math.inf if self.quota is None else max(1, int(self.quota + 0.05))
        return int(max(1, min(self.fast, granted)))

    @property
    def reason(self) -> str:
        """Why so many threads."""
        parts = [f"{self.affinity} processors in the affinity mask"]
        if self.physical < self.affinity:
            parts.append(f"{self.physical} cores, two threads of a core share its arithmetic")
        if self.fast < self.physical:
            parts.append(f"{self.fast} of them fast")
        parts.append("no CPU quota" if self.quota is None else f"a CPU quota of {self.quota:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class MachineLimits:
    """What the threads of a team can do at most together, measured: operations a second by type of weight
    (a multiplication and an addition count as two), and bytes read from memory a second.
    """

    f32_flops: float
    bf16_flops: float
    q8_flops: float
    q4_flops: float
    read_bytes_per_second: float

    def seconds(self, flops: float, nbytes: float, kind: str = "f32") -> float:
        """The least time for that work and traffic, with arithmetic and reading at the same time.

        kind: of the weight, as in `WeightType`; of a mixture the slowest counts.
        """
        rates = {
            "f32": self.f32_flops,
            "bf16": self.bf16_flops,
            "q8": self.q8_flops,
            "int8": self.q8_flops,
            "q4": self.q4_flops,
        }
        rate = min(rates.get(part, self.f32_flops) for part in kind.split("+"))
        return max(flops / rate, nbytes / self.read_bytes_per_second)


def read_cores(root: Path = Path("/")) -> Cores:
    """The cores of this process, from the files below `root`."""
    processors = sorted(os.sched_getaffinity(0))
    folders = {number: root / f"sys/devices/system/cpu/cpu{number}" for number in processors}
    capacities = [_capacity(folders[group[0]]) for group in _core_groups(folders)]
    largest = max(capacities)
    fast = sum(capacity >= _PERFORMANCE_SHARE * largest for capacity in capacities)
    return Cores(len(processors), len(capacities), fast, cpu_quota(root))


def default_threads() -> int:
    """Threads to compute with where nobody says how many."""
    return read_cores().threads


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that the control groups grant, the tightest of them; None without a limit."""
    quotas = [_quota_v2(folder) for folder in _group_folders(root, "")]
    quotas += [_quota_v1(folder) for folder in _group_folders(root, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: of the machine, its control groups, its own limit."""
    free = [_machine_free(root / "proc/meminfo"), _address_space_free(root / "proc/self/statm")]
    free += [_group_free(folder, "memory.max", "memory.current") for folder in _group_folders(root, "")]
    free += [
        _group_free(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")
        for folder in _group_folders(root, "memory")
    ]
    return max(0, min(free))


def processor_name(root: Path = Path("/")) -> str:
    """The processor's name as the system tells it; its architecture where it tells none."""
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return os.uname().machine


def total_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that the machine has; None where nothing says."""
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _core_groups(folders: dict[int, Path]) -> Iterable[list[int]]:
    """Logical processors by the core that they share."""
    groups: dict[str, list[int]] = {}
    for number, folder in folders.items():
        shared = _text(folder / "topology/thread_siblings_list") or str(number)
        groups.setdefault(shared, []).append(number)
    return groups.values()


def _capacity(folder: Path) -> float:
    """How fast a processor is beside others of this machine; 1 where nothing says."""
    for file in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        if (text := _text(folder / file)) is not None and text.isdigit():
            return max(1.0, float(text))
    return 1.0


def _quota_v2(folder: Path) -> float | None:
    fields = (_text(folder / "cpu.max") or "").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return float(fields[0]) / float(fields[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _machine_free(meminfo: Path) -> int:
    for line in (_text(meminfo) or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _NO_LIMIT


def _address_space_free(statm: Path) -> int:
    """What is left below this process's own limit of addresses (`ulimit -v`)."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = (_text(statm) or "").partition(" ")[0]
    if limit == resource.RLIM_INFINITY or not pages.isdigit():
        return _NO_LIMIT
    return limit - int(pages) * resource.getpagesize()


def _group_free(folder: Path, limit_file: str, used_file: str) -> int:
    """What is left below a group's memory limit; the page cache counts as free."""
    limit, used = _number(folder / limit_file), _number(folder / used_file)
    if limit is None or used is None or limit >= _NO_LIMIT:
        return _NO_LIMIT
    statistics = dict(line.split(None, 1) for line in (_text(folder / "memory.stat") or "").splitlines())
    prefix = "total_" if "total_inactive_file" in statistics else ""
    cached = sum(int(statistics.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
    return limit - used + cached


def _group_folders(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control groups, its own and those above; controller "" for the unified tree.

    In a container the path may be that of the host, and the mount its own group: the top is then all there
    is.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            own = top / path.strip("/")
            return [folder for folder in (own, *own.parents) if top in (folder, *folder.parents)]
    return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
