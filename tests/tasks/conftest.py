"""Models for tests of whole answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tiny_folders import WRITERS

import weft
from weft.errors import WeftError

_HOME = os.environ.get("WEFT_HOME")


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama's files."""
    return WRITERS["llama"](tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[weft.Model]:
    """A tiny Llama on two threads, with a cache of packed weights of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(tmp_path_factory.mktemp("home")))
        with weft.load(tiny_folder, threads=2) as model:
            yield model


@pytest.fixture(scope="session")
def smollm2() -> Iterator[weft.Model]:
    """SmolLM2-135M-Instruct from its Q4_1 file; skips where it is not at hand and cannot be fetched."""
    with pytest.MonkeyPatch.context() as patch:
        # Another fixture may have set a home of its own when this one is first asked for.
        if _HOME is None:
            patch.delenv("WEFT_HOME", raising=False)
        else:
            patch.setenv("WEFT_HOME", _HOME)
        try:
            model = weft.load("smollm2-135m-instruct", threads=2)
        except WeftError as error:
            pytest.skip(f"smollm2-135m-instruct is not at hand: {error}")
    with model:
        yield model
