"""The real `weft serve` in tests: a process of its own on a free port of the loopback address."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.cli.run_weft import command, environment

_TIMEOUT_S = 300.0  # a busy machine decides no test


class Server:
    """A server; `port` is where it listens."""

    def __init__(self, model: Path | str, home: Path, *flags: str | Path, **env: str) -> None:
        # Gone with the server: `home` may be the user's own.
        self._log_file = tempfile.NamedTemporaryFile(prefix="weft-serve-", suffix=".log")  # noqa: SIM115
        self.log = Path(self._log_file.name)
        self.process = subprocess.Popen(
            command("serve", model, "--port", "0", *flags),
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            env=environment(home, **env),
            text=True,
        )
        assert self.process.stdout is not None
        self.introduction = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) ", self.introduction)
        assert found, self.log.read_text()
        self.port = int(found[1])

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.port}"

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; `body` is sent as JSON unless it is bytes. Status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, content, {"content-type": "application/json"} | (headers or {}))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def ok(self, path: str, body: Any = None) -> Any:
        """The JSON that a request is answered with, which must succeed."""
        status, _, content = self.call("GET" if body is None else "POST", path, body)
        assert status == 200, content
        return json.loads(content)

    def refused(self, status: int, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """The error that a request is answered with, which must be refused with `status`."""
        got, _, content = self.call("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        assert got == status, content
        return json.loads(content)["error"]

    def metric(self, name: str) -> float:
        """A value of /metrics, by its name and labels."""
        _, _, content = self.call("GET", "/metrics")
        values = dict(line.rsplit(" ", 1) for line in content.decode().splitlines() if line[0] != "#")
        return float(values.get(name, 0))

    def wait_for_metric(self, name: str, value: float) -> None:
        """Waits until a metric has this value."""
        self.wait_until(lambda: self.metric(name) == value, lambda: f"{name} stays {self.metric(name)}")

    def wait_until(
        self, holds: Callable[[], bool], told: Callable[[], str] = lambda: "it never came"
    ) -> None:
        """Waits until something holds; `told` says what else did."""
        end = time.monotonic() + _TIMEOUT_S
        while not holds():
            assert time.monotonic() < end, told()
            time.sleep(0.02)

    def memory_bytes(self) -> int:
        """Its memory that is not shared with files: weights that are mapped do not count."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found, status
        return int(found[1]) << 10

    def num_descriptors(self) -> int:
        """Files and connections that it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> int:
        """Ends it as systemd would; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


@contextlib.contextmanager
def running(model: Path | str, home: Path, *flags: str | Path, **env: str) -> Iterator[Server]:
    """A server that ends with the block."""
    server = Server(model, home, *flags, **env)
    try:
        yield server
    finally:
        server.stop()
