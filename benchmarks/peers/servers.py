"""Servers of OpenAI's API that meet under one load: how each is started, and with which settings."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from peers.contenders import MODEL, Places

HERE = Path(__file__).parent
START_SECONDS = 240.0
SLOTS = 32  # requests that run at once where that is a setting; each has room for the longest request
TOKENS_OF_SLOT = 1024


@dataclass(frozen=True)
class ServerPeer:
    """A server by the command that starts it; `{port}` in it is a free port. first_rate: tried first."""

    name: str
    command: tuple[str, ...]
    first_rate: float
    health: str = "/v1/models"
    env: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """What has to be made before it can run, or None."""
        return None if Path(self.command[0]).exists() else self.command[0]


def servers(places: Places, threads: int) -> list[ServerPeer]:
    """weft and all others, each with its likeliest settings."""
    gguf = str(places.models / f"{MODEL}.Q4_1.gguf")
    count = str(threads)
    main = str(places.peers / "main" / "bin" / "python")
    front = str(HERE / "openvino_server.py")
    weft = (sys.executable, "-m", "weft", "serve", gguf, "--port", "{port}", "--threads", count)
    return [
        ServerPeer("weft Q4_1", weft, first_rate=3.125),
        ServerPeer("weft int8", (*weft, "--quant", "int8"), first_rate=3.125),
        ServerPeer(
            "llama-server Q4_1",
            (
                str(places.peers / "llama-server"),
                *("-m", gguf, "--port", "{port}", "-t", count, "-tb", count, "--log-disable"),
                *("-np", str(SLOTS), "-c", str(SLOTS * TOKENS_OF_SLOT), "--no-cache-prompt"),
            ),
            first_rate=0.5,
            health="/health",
        ),
        ServerPeer(
            "llama-cpp-python Q4_1",
            (
                str(places.peers / "llama" / "bin" / "python"),
                *("-m", "llama_cpp.server", "--model", gguf, "--port", "{port}"),
                *("--n_threads", count, "--n_threads_batch", count, "--n_ctx", "1024", "--verbose", "False"),
            ),
            first_rate=0.25,
        ),
        ServerPeer(
            "OpenVINO GenAI int8", (main, front, str(places.models / "ov-int8"), "{port}", count), 1.0
        ),
        ServerPeer("OpenVINO GenAI Q4_1", (main, front, gguf, "{port}", count), 1.0),
        ServerPeer(
            "vLLM bf16",
            (
                str(places.peers / "vllm" / "bin" / "vllm"),
                *("serve", str(places.models / MODEL), "--port", "{port}", "--dtype", "bfloat16"),
                *("--max-model-len", str(TOKENS_OF_SLOT), "--served-model-name", "model"),
                "--enforce-eager",  # warming up for compiled graphs took longer than START_SECONDS
            ),
            first_rate=1.0,
            health="/health",
            env={
                "HF_HUB_OFFLINE": "1",
                "VLLM_CPU_KVCACHE_SPACE": "2",
                "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
                "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            },
        ),
    ]


@contextmanager
def running(peer: ServerPeer, log: Path) -> Iterator[str]:
    """The URL of the server, started and ready; it ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [part.replace("{port}", str(port)) for part in peer.command]
    with open(log, "ab") as errors:
        process = subprocess.Popen(
            command, stdout=errors, stderr=errors, env={**os.environ, **peer.env}, process_group=0
        )
    try:
        _wait_until_ready(process, url + peer.health, peer.name)
        yield url
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it has ended itself
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, name: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with status {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise RuntimeError(f"{name} was not ready after {START_SECONDS:.0f} s")
