from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.run_weft import Weft
from tests.support.tiny_folder import write_tiny_folder

pytest.importorskip("weft._native", reason="the native core is not built")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random chat model that speaks bytes."""
    return write_tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Weft:
    """The command, with one cache for all tests that only add to it."""
    return Weft(tmp_path_factory.mktemp("home"))


@pytest.fixture
def lone_weft(tmp_path: Path) -> Weft:
    """The command, with an empty cache of the test's own."""
    return Weft(tmp_path / "home")
