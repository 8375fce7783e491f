"""One checkpoint on disk: a folder of safetensors files and a state.json with their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from weft.errors import ModelFileError, TrainingError
from weft.io.atomic_file import sync_folder
from weft.io.json_file import read_json_object
from weft.io.safetensors import encode_header, open_safetensors
from weft.train.checkpoint.snapshot import Snapshot
from weft.types import Array

STATE_FILE = "state.json"
_VERSION = 1
_READ_BYTES = 8 << 20


@dataclass(frozen=True)
class CheckpointContent:
    """What a checkpoint holds: float32 arrays by file and name, and plain values."""

    arrays: Mapping[str, Mapping[str, Array]]
    state: Mapping[str, Any]


def write_checkpoint(folder: Path, snapshots: Mapping[str, Snapshot], state: Mapping[str, Any]) -> None:
    """Makes `folder` a checkpoint of `snapshots`, by file name, whole or not at all.

    Written beside its name, flushed to disk, then renamed. Raises OSError (full disk, no permission).
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        files = {name: _write_arrays(draft / name, snapshot) for name, snapshot in snapshots.items()}
        content = {"version": _VERSION, **state, "files": files}
        content["sha256"] = _state_checksum(content)
        with open(draft / STATE_FILE, "xb") as file:
            file.write(json.dumps(content, indent=1).encode())
            _flush(file)
        sync_folder(draft)
        if folder.exists():
            # Of the same step, from before a resume: out of the way, since a rename does not replace it.
            shutil.rmtree(folder)
        os.rename(draft, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(draft)
        raise
    sync_folder(folder.parent)


def read_checkpoint(folder: Path) -> CheckpointContent:
    """The checkpoint in `folder`; arrays are views of the mapped files. Raises TrainingError when damaged."""
    try:
        state = read_json_object(folder / STATE_FILE)
        if state.get("version") != _VERSION or state.get("sha256") != _state_checksum(state):
            raise TrainingError(f"{folder}: {STATE_FILE} is not what was written; take an older checkpoint.")
        arrays = {}
        for name, expected in state["files"].items():
            if checksum(folder / name) != expected["sha256"]:
                raise TrainingError(f"{folder}: {name} is not what was written; take an older checkpoint.")
            tensors = open_safetensors(folder / name).tensors
            arrays[name] = {
                key: np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)
                for key, tensor in tensors.items()
            }
    except (ModelFileError, LookupError, OSError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{folder}: expected a whole checkpoint, got: {error}; take an older one."
        ) from error
    return CheckpointContent(arrays, state)


def checksum(path: Path) -> str:
    """The file's SHA-256. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _write_arrays(path: Path, snapshot: Snapshot) -> dict[str, str]:
    entries = [(name, "F32", shape) for name, shape in snapshot.shapes.items()]
    header = encode_header(entries, {"format": "pt"})
    digest = hashlib.sha256(header)
    with open(path, "xb", buffering=0) as file:
        _write_all(file, memoryview(header))
        for name in snapshot.shapes:
            # Closed even when writing fails, since an open one keeps the trainer from going on.
            with contextlib.closing(snapshot.chunks(name)) as chunks:
                for chunk in chunks:
                    digest.update(chunk)
                    _write_all(file, chunk)
        _flush(file)
    return {"sha256": digest.hexdigest()}


def _write_all(file: Any, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def _flush(file: BinaryIO | Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _state_checksum(state: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in state.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
