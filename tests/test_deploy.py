"""The systemd unit and the Dockerfile: what can be held of them without a service manager or containers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

from weft.cli.main import weft
from weft.server.config import ServerConfig

DEPLOY = Path(__file__).parents[1] / "deploy"
ROOT = DEPLOY.parent
UNIT = (DEPLOY / "weft.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def variables_of(command: str) -> set[str]:
    """The environment twins of a command's flags."""
    found = weft.get_command(Context(weft), command)
    assert found is not None
    return {str(parameter.envvar) for parameter in found.params if parameter.envvar}


def instructions(name: str) -> list[str]:
    """What follows an instruction of the Dockerfile, lines that go on joined."""
    whole = re.sub(r"\\\n", " ", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", whole, re.MULTILINE)


@pytest.mark.parametrize("text", [UNIT, DOCKERFILE], ids=["unit", "Dockerfile"])
def test_variables_are_those_that_weft_reads(text: str) -> None:
    named = set(re.findall(r"WEFT_[A-Z_]+", text))
    assert "WEFT_MODEL" in named
    assert named <= variables_of("serve") | {"WEFT_HOME"}


def test_the_unit_waits_for_answers_to_finish() -> None:
    (wait,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(wait) > ServerConfig().shutdown_time


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = tmp_path / "weft.service"
    here = str(Path(sys.executable))
    with_keys = re.sub(r"^#(?=[A-Z]\w+=)", "", UNIT, flags=re.MULTILINE)
    assert with_keys.count("\n#") == UNIT.count("\n#") - 2
    unit.write_text(with_keys.replace("/opt/weft/bin/weft", here))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in told.stderr.splitlines() if unit.name in line]
    assert not complaints, told.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_gives_no_more_rights_than_needed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", DEPLOY / "weft.service"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for weft.service: ([\d.]+)", told.stdout)
    if found is None:
        pytest.skip("this systemd-analyze cannot judge a file that is not installed")
    assert float(found[1]) <= 1.6


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_the_image_has_no_faults_that_a_linter_knows() -> None:
    told = subprocess.run(["hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout


def test_the_image_copies_what_is_there_and_what_is_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert set(copied) == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert all(re.search(r":\d", image.split()[0]) for image in instructions("FROM")), "versions are named"
    (user,) = instructions("USER")
    assert int(user) > 0
    assert DOCKERFILE.index("\nUSER") < DOCKERFILE.index("\nENTRYPOINT")
    (entry,) = instructions("ENTRYPOINT")
    assert entry.startswith("[") and "exec weft serve" in entry, "no shell between it and signals"
    for line in instructions("RUN"):
        if "apt-get install" in line:
            assert "--no-install-recommends" in line and "rm -rf /var/lib/apt/lists" in line
        if "pip " in line:
            assert "--no-cache-dir" in line
