"""The packed cache: whole or absent, equal when read back, silent about damage, harmless on a full disk."""

from __future__ import annotations

import errno
import os
import random
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.io.gguf_builder import STRING, GgufBuilder, tiny_model
from tests.io.test_tokenizer import byte_level_gguf
from weft.errors import TokenizerError
from weft.io import packed_cache
from weft.io.checkpoint import Checkpoint
from weft.io.gguf.tokenizer import tokenizer_from_gguf
from weft.io.open_checkpoint import open_checkpoint
from weft.io.packed_cache import PackedKey, open_packed, packed_files_of, write_packed
from weft.io.text.tokenizer import Tokenizer

ENTRIES: list[tuple[str, dict[str, Any], Any]] = [
    ("model.layers.0.q", {"kind": "q4", "n": 64, "scale": 0.1, "name": "é"}, os.urandom(1000)),
    ("empty", {}, b""),
    ("norm", {"kind": "vector"}, memoryview(os.urandom(64)).cast("f")),
]


@pytest.fixture
def checkpoint(tmp_path: Path, weft_home: Path) -> Checkpoint:
    builder: GgufBuilder = tiny_model([("tokenizer.chat_template", STRING, "{{ messages }}")])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.gguf").write_bytes(builder.build())
    opened = open_checkpoint(tmp_path / "model")
    opened.load_tokenizer = lambda: tokenizer_from_gguf(byte_level_gguf())
    return opened


def key_of(checkpoint: Checkpoint) -> PackedKey:
    return PackedKey(checkpoint.identity, "avx2", "native", 1)


def test_what_is_written_is_read(checkpoint: Checkpoint, weft_home: Path) -> None:
    key = key_of(checkpoint)
    assert open_packed(key) is None
    path = write_packed(key, checkpoint, iter(ENTRIES))
    assert path == key.path and path.parent == weft_home / "packed" and list(path.parent.iterdir()) == [path]
    model = open_packed(key)
    assert model is not None
    assert model.config == checkpoint.config and model.chat_template == "{{ messages }}"
    assert list(model.entries) == [name for name, _, _ in ENTRIES]
    for name, header, data in ENTRIES:
        assert model.entries[name].header == header and model.entries[name].data == bytes(data)
    assert model.tokenizer().encode("hello hello") == [259, 260]
    assert model.tokenizer().special == checkpoint.tokenizer().special


def test_blobs_are_aligned(checkpoint: Checkpoint) -> None:
    import numpy as np

    write_packed(key_of(checkpoint), checkpoint, ENTRIES)
    model = open_packed(key_of(checkpoint))
    assert model is not None
    for entry in model.entries.values():
        if len(entry.data):
            assert np.frombuffer(entry.data, np.uint8).ctypes.data % 64 == 0


@pytest.mark.parametrize(
    "change", [{"identity": "x"}, {"layout": "avx512"}, {"target": "q8"}, {"version": 2}]
)
def test_other_keys_find_nothing(checkpoint: Checkpoint, change: dict[str, Any]) -> None:
    key = key_of(checkpoint)
    path = write_packed(key, checkpoint, ENTRIES)
    other = replace(key, **change)
    assert open_packed(other) is None
    assert path is not None
    other.path.write_bytes(path.read_bytes())
    assert open_packed(other) is None


def test_damage_is_as_if_nothing_were_there(checkpoint: Checkpoint) -> None:
    key = key_of(checkpoint)
    path = write_packed(key, checkpoint, ENTRIES)
    assert path is not None
    whole, rng = path.read_bytes(), random.Random(0)
    footer = whole.rindex(b'{"key"')
    for size in (0, 1, 27, 28, footer, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(50))):
        path.write_bytes(whole[:size])
        assert open_packed(key) is None
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(footer, len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert open_packed(key) is None
    path.write_bytes(whole + b"more")
    assert open_packed(key) is None
    path.write_bytes(whole)
    assert open_packed(key) is not None


def test_a_full_disk_is_warned_of_once(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*rest: Any) -> dict[str, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packed_cache, "_put", full)
    with pytest.warns(RuntimeWarning, match="No space left on device.*WEFT_CACHE=0") as caught:
        assert write_packed(key_of(checkpoint), checkpoint, ENTRIES) is None
    assert len(caught) == 1 and list(key_of(checkpoint).path.parent.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_warned_of(checkpoint: Checkpoint, weft_home: Path) -> None:
    weft_home.write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        assert write_packed(key_of(checkpoint), checkpoint, ENTRIES) is None
    assert open_packed(key_of(checkpoint)) is None


def test_a_failing_packer_leaves_nothing(checkpoint: Checkpoint) -> None:
    def broken() -> Any:
        yield ENTRIES[0]
        raise ValueError("packing failed")

    with pytest.raises(ValueError, match="packing failed"):
        write_packed(key_of(checkpoint), checkpoint, broken())
    assert list(key_of(checkpoint).path.parent.iterdir()) == []


def test_the_cache_can_be_turned_off(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    write_packed(key_of(checkpoint), checkpoint, ENTRIES)
    monkeypatch.setenv("WEFT_CACHE", "0")
    assert open_packed(key_of(checkpoint)) is None
    assert write_packed(replace(key_of(checkpoint), version=9), checkpoint, ENTRIES) is None
    assert len(list(key_of(checkpoint).path.parent.iterdir())) == 1


def test_files_are_found_by_their_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = write_packed(key_of(checkpoint), checkpoint, ENTRIES)
    assert packed_files_of(tmp_path / "model") == packed_files_of(tmp_path / "model" / "m.gguf") == [path]
    assert packed_files_of(tmp_path / "other") == []
    assert path is not None
    (path.parent / "junk.weft").write_bytes(b"junk")
    assert packed_files_of(tmp_path / "model") == [path]


def test_a_changed_model_replaces_its_old_packing(checkpoint: Checkpoint) -> None:
    old = write_packed(replace(key_of(checkpoint), identity="before"), checkpoint, ENTRIES)
    other_target = write_packed(replace(key_of(checkpoint), target="q8"), checkpoint, ENTRIES)
    new = write_packed(key_of(checkpoint), checkpoint, ENTRIES)
    assert old is not None and not old.exists()
    assert set(key_of(checkpoint).path.parent.iterdir()) == {other_target, new}


def test_packings_of_models_that_are_gone_and_of_older_code_are_removed(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    older = write_packed(replace(key_of(checkpoint), version=0), checkpoint, ENTRIES)
    gone = replace(checkpoint, path=tmp_path / "removed" / "m.gguf")
    left = write_packed(replace(key_of(checkpoint), identity="gone"), gone, ENTRIES)
    newer = write_packed(replace(key_of(checkpoint), target="q8", version=9), checkpoint, ENTRIES)
    new = write_packed(key_of(checkpoint), checkpoint, ENTRIES)
    assert older is not None and left is not None
    assert set(key_of(checkpoint).path.parent.iterdir()) == {newer, new}


def test_a_model_without_tokenizer_is_kept(checkpoint: Checkpoint) -> None:
    def none() -> Tokenizer:
        raise TokenizerError("it carries no tokenizer")

    checkpoint.load_tokenizer = none
    write_packed(key_of(checkpoint), checkpoint, ENTRIES)
    model = open_packed(key_of(checkpoint))
    assert model is not None and len(model.entries) == len(ENTRIES)
    with pytest.raises(TokenizerError, match="it carries no tokenizer"):
        model.tokenizer()


def test_writers_at_the_same_time(checkpoint: Checkpoint) -> None:
    key, results = key_of(checkpoint), []
    checkpoint.tokenizer()

    def work() -> None:
        for _ in range(5):
            write_packed(key, checkpoint, ENTRIES)
            results.append(open_packed(key))

    threads = [threading.Thread(target=work) for _ in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 30 and all(model is not None for model in results)
    assert list(key.path.parent.iterdir()) == [key.path]
