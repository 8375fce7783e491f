from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.tiny_folder import write_tiny_folder

if TYPE_CHECKING:
    from tests.server.running_server import Server

pytest.importorskip("weft._native", reason="the native core is not built")
for name in ("starlette", "uvicorn", "msgspec"):
    pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The servers' cache."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random chat model that speaks bytes, of a context that takes long to fill."""
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def server(tiny: Path, home: Path) -> Iterator[Server]:
    """A server of the tiny model for tests that leave it as it was."""
    from tests.server.running_server import running

    with running(tiny, home) as started:
        yield started
        assert started.process.poll() is None, started.log.read_text()[-4000:]
    assert started.process.returncode == 0, started.log.read_text()[-4000:]
    assert "Traceback" not in started.log.read_text(), "see the log"


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    """A server of the real model, with the user's own cache."""
    from tests.server.running_server import running
    from weft.errors import WeftError
    from weft.io.cache_paths import cache_root
    from weft.io.fetch.sources import pull

    try:
        pull("smollm2-135m-instruct")
    except WeftError as error:
        pytest.skip(f"the real model is not at hand: {error}")
    with running("smollm2-135m-instruct", cache_root()) as started:
        yield started


# Of a module, since playwright keeps an event loop in this thread, which other tests may need.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from tests.support.browser import browser_environment, find_browser

    program = find_browser()
    if program is None:
        pytest.skip("no Chromium: install one, name one by CHROME_BIN, or `python -m tests.support.browser`")
    env = browser_environment(program)
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=["--no-sandbox"], env=env)
        yield launched
        launched.close()
