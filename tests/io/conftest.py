"""Real models for tests, fetched once into weft's cache by weft's own code; a server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.io.http_server import FileServer
from weft.errors import WeftError
from weft.io.fetch.sources import pull


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct as GGUF Q4_1; skips where it is not at hand and cannot be fetched."""
    return _pulled("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def stories_file() -> Path:
    """stories15M in llama2.c's format, its tokenizer.bin beside it."""
    return _pulled("stories15m")


@pytest.fixture
def weft_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WEFT_CACHE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[FileServer]:
    """An HTTP server on loopback that can be told to misbehave."""
    with FileServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _pulled(name: str) -> Path:
    try:
        return pull(name)
    except WeftError as error:
        pytest.skip(f"{name} is not at hand: {error}")
