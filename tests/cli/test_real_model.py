"""The commands of `make demo` with the real model; skipped where it is not at hand and cannot be fetched."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.run_weft import Weft, environment
from weft.errors import WeftError

MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def real() -> Weft:
    """The command with the user's own cache."""
    from pathlib import Path

    from weft.io.cache_paths import cache_root
    from weft.io.fetch.sources import pull

    try:
        pull(MODEL)
    except WeftError as error:
        pytest.skip(f"{MODEL} is not at hand: {error}")
    weft = Weft(Path(cache_root()))
    weft.environment = environment(cache_root())
    return weft


def test_it_is_listed(real: Weft) -> None:
    assert MODEL in [entry["name"] for entry in json.loads(real.ok("list", "--json"))["models"]]


def test_a_chat_answer(real: Weft) -> None:
    text = real.ok("chat", MODEL, "-p", "What is a loom?", "--temp", "0", "-n", "48")
    assert re.search("weav|textile|fabric|cloth", text)


def test_threads_do_not_change_the_text(real: Weft) -> None:
    run = ("generate", "-m", MODEL, "-p", "The loom", "-n", "24", "--seed", "1", "--json", "-q")
    texts = {json.loads(real.ok(*run, "-t", str(threads)))["text"] for threads in (1, 2, 3)}
    assert len(texts) == 1
