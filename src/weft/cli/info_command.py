"""weft info: the machine as weft sees it, and the threads that it would use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from weft.cli.options import flag


@click.command("info")
@flag("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool) -> None:
    """Show this machine: cores, quota, memory, instruction sets; the threads that weft uses, and why."""
    from weft.cli.tables import print_json, print_pairs

    facts = _facts()
    if as_json:
        print_json(facts)
    else:
        print_pairs(_lines(facts))


def _facts() -> dict[str, Any]:
    import platform

    from weft import __version__
    from weft.io.cache_paths import models_folder, packed_folder
    from weft.io.packed_cache import cache_is_on
    from weft.machine import available_memory, processor_name, read_cores, total_memory
    from weft.runtime import available_isas, cache_bytes, selected_isa

    cores = read_cores()
    return {
        "weft": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "processors": os.cpu_count(),
        "affinity": cores.affinity,
        "cores": cores.physical,
        "fast_cores": cores.fast,
        "cpu_quota": cores.quota,
        "threads": cores.threads,
        "threads_reason": cores.reason,
        "isa": selected_isa(),
        "isa_available": available_isas(),
        "isa_forced": os.environ.get("WEFT_ISA") or None,
        "caches": cache_bytes(),
        "memory_bytes": total_memory(),
        "memory_available_bytes": available_memory(),
        "models_folder": str(models_folder()),
        "models_bytes": _bytes_in(models_folder()),
        "packed_folder": str(packed_folder()) if cache_is_on() else None,
        "packed_bytes": _bytes_in(packed_folder()),
    }


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    from weft.cli.tables import plural
    from weft.config import format_bytes

    quota = facts["cpu_quota"]
    total = facts["memory_bytes"]
    available = format_bytes(facts["memory_available_bytes"])
    chosen = "forced by WEFT_ISA" if facts["isa_forced"] else "the fastest here"
    levels = ((name[:2].upper(), size) for name, size in facts["caches"].items() if size)
    return [
        ("weft", f"{facts['weft']}, Python {facts['python']}, {facts['system']}"),
        ("processor", facts["processor"]),
        ("cores", f"{plural(facts['cores'], 'core')}, {plural(facts['affinity'], 'processor')} of "
                  f"{facts['processors']} granted"),
        ("CPU quota", "none" if quota is None else f"{quota:g} processors' worth of time"),
        ("threads", f"{facts['threads']}: {facts['threads_reason']}"),
        ("kernels", f"{facts['isa']} ({chosen}); this machine has {', '.join(facts['isa_available'])}"),
        ("caches", ", ".join(f"{level} {format_bytes(size)}" for level, size in levels) or "unknown"),
        ("memory", f"{available} free" + (f" of {format_bytes(total)}" if total else "")),
        ("models", f"{facts['models_folder']}, {format_bytes(facts['models_bytes'])}"),
        ("packed weights", f"{facts['packed_folder']}, {format_bytes(facts['packed_bytes'])}"
                           if facts["packed_folder"] else "not kept (WEFT_CACHE=0)"),
    ]  # fmt: skip


def _bytes_in(folder: Path) -> int:
    """What the files in a folder take on disk, 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
