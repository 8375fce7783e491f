"""Fuzzes whole models: `python -m tests.fuzz.fuzz_models --runs 100000 --seed 0`.

One file of a small folder, or a small GGUF file, is damaged; then the model is loaded as `weft.load` does
it, and where that succeeds a few tokens are computed.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.mutation import EDGES, damage, main
from tests.support.tiny_folder import write_tiny_folder
from tests.support.tiny_folders import write_gpt2
from tests.support.tiny_gguf import tiny_gguf
from weft.config import EngineConfig
from weft.tasks.model import Model

_PLACE = Path(tempfile.mkdtemp(prefix="weft-fuzz-"))
atexit.register(shutil.rmtree, _PLACE, ignore_errors=True)
_FOLDERS = [write_tiny_folder(_PLACE / "llama"), write_gpt2(_PLACE / "gpt2")]
_GGUF = tiny_gguf().build()
_GGUF_HEADER_BYTES = 12_000  # about; damage beyond it only changes numbers
_ENGINE = EngineConfig(threads=1, max_context=32, max_rows=16, max_running=2)
_SEPARATOR = b"\0file\0"

# What a configuration may say in place of a true value.
_ODD = (
    0,
    -1,
    1,
    2,
    3,
    7,
    10**9,
    10**30,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    "1",
    "",
    True,
    None,
    [],
    [1],
    {},
    {"a": []},
)


def make(rng: random.Random) -> bytes:
    """One input: the name of a file of one of the models, and its damaged content."""
    if rng.random() < 0.4:
        return b"gguf" + _SEPARATOR + _damaged_head(_GGUF, _GGUF_HEADER_BYTES, rng)
    folder = rng.choice(_FOLDERS)
    path = rng.choice(sorted(folder.iterdir()))
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        content = json.dumps(_lying(json.loads(content), rng)).encode()
    elif path.suffix == ".json":
        content = damage(content, [content], rng)
    else:
        content = _damaged_head(content, 2500, rng)
    return f"{folder.name}/{path.name}".encode() + _SEPARATOR + content


def read(data: bytes) -> None:
    """Load the model that `data` belongs to and compute with it. Raises what loading raises."""
    os.environ["WEFT_CACHE"] = "0"  # every input is loaded anew
    name, _, content = data.partition(_SEPARATOR)
    if name == b"gguf":
        (_PLACE / "model.gguf").write_bytes(content)
        _run(_PLACE / "model.gguf")
        return
    path = _PLACE / name.decode()
    good = path.read_bytes()
    try:
        path.write_bytes(content)
        _run(path.parent)
    finally:
        path.write_bytes(good)


def _run(path: Path) -> None:
    with Model(path, _ENGINE) as model:
        for completion in model.generate(["ab"], max_tokens=2, temperature=0.0):
            assert len(completion.token_ids) <= 2


def _damaged_head(content: bytes, size: int, rng: random.Random) -> bytes:
    """Damage to the first `size` bytes; seldom anywhere."""
    if rng.random() < 0.1:
        return damage(content, [content], rng)
    return damage(content[:size], [content], rng) + content[size:]


def _lying(content: Any, rng: random.Random) -> Any:
    """`content` with one or two of its values replaced, anywhere in it."""
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(content))
        if places:
            rng.choice(places)(rng.choice((*_ODD, *EDGES)))
    return content


def _places(content: Any) -> list[Callable[[Any], None]]:
    """What replaces each value inside `content`; of long lists and objects only a few."""
    found: list[Callable[[Any], None]] = []
    keys = list(content if isinstance(content, dict) else range(len(content)))[:40]
    for key in keys:
        found.append(lambda value, key=key: content.__setitem__(key, value))  # type: ignore[misc]
        if isinstance(content[key], dict | list):
            found += _places(content[key])
    return found


if __name__ == "__main__":
    main("whole-model", make, read)
