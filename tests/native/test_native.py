"""The C++ tests, built beside the extension: every case, on every instruction set of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = sorted(source.stem for source in Path(__file__).parent.glob("test_*.cc"))


def latest_build(name: str) -> Path:
    """The program of that name in the folder where the extension was built last."""
    found = sorted(ROOT.glob(f"build/cp*/{name}"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip(f"{name} is not built; `make test-environment` builds it")
    return found[-1]


@pytest.mark.parametrize("name", NAMES)
def test_all_cases(name: str) -> None:
    run = subprocess.run([latest_build(name)], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert "ok" in run.stdout
