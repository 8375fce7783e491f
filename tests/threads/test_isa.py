"""The choice of an instruction set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from weft.runtime import native


def selected(isa: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "WEFT_ISA"}
    if isa is not None:
        environment["WEFT_ISA"] = isa
    code = "import weft._native as native; print(native.isa_selected())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def cpu_flags() -> set[str]:
    with open("/proc/cpuinfo") as file:
        return next((set(line.split(":")[1].split()) for line in file if line.startswith("flags")), set())


def test_available_matches_the_processor() -> None:
    available = native().isa_available()
    flags = cpu_flags()
    assert available[0] == "portable"
    assert ("avx2" in available) == ({"avx2", "fma", "f16c", "bmi2"} <= flags)
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"} <= flags:
        assert available[-1] == "avx512"


def test_default_is_one_of_the_available() -> None:
    assert selected(None).stdout.strip() in native().isa_available()
    assert selected("").stdout == selected(None).stdout


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_forced_is_used_or_refused(isa: str) -> None:
    result = selected(isa)
    if isa in native().isa_available():
        assert result.stdout.strip() == isa
    else:
        assert result.returncode == 1
        assert "UnsupportedError" in result.stderr and "portable" in result.stderr


def test_unknown_name_is_refused() -> None:
    result = selected("sse9")
    assert "ConfigError" in result.stderr and "sse9" in result.stderr and "portable" in result.stderr


def test_cache_sizes() -> None:
    sizes = native().cache_bytes()
    assert set(sizes) == {"l1d_bytes", "l2_bytes", "l3_bytes"}
    assert all(size == 0 or 4096 <= size < 1 << 40 for size in sizes.values())
