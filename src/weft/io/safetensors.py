"""Reads and writes safetensors files: a JSON header, then the tensors' bytes; mapped, nothing copied.

Format: github.com/huggingface/safetensors, README. Sharded models are read through their
`model.safetensors.index.json`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.atomic_file import atomic_file
from weft.io.json_file import parse_json_object, read_json_object
from weft.io.kinds import PLAIN_KINDS, WEIGHT_KINDS
from weft.io.mapped_file import MappedFile
from weft.io.messages import shown
from weft.io.tensor_source import TensorSource

MAX_HEADER_BYTES = 16 << 20
MAX_DIMENSIONS = 8
_MAX_TENSOR_BYTES = 1 << 48
_MAX_HEADER_VALUES = 1 << 20
_DATA_ALIGNMENT = 64

# The format's own names are weft's kinds; these are its kinds of which each element is whole bytes.
_ELEMENT_BYTES = {kind: size for kind, (block, size) in (WEIGHT_KINDS | PLAIN_KINDS).items() if block == 1}


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """What one file holds. Immutable, so it may be read from several threads."""

    name: str
    tensors: dict[str, TensorSource]
    metadata: dict[str, str]
    header_bytes: int
    mapping: MappedFile | None = None


def open_safetensors(path: str | os.PathLike[str]) -> SafetensorsFile:
    """Map and check the safetensors file at `path`. Raises ModelNotFoundError, ModelFileError."""
    mapping = MappedFile(path)
    return parse_safetensors(mapping.view, str(mapping.path), mapping)


def open_sharded(index_path: Path) -> tuple[dict[str, TensorSource], Callable[[], None]]:
    """All tensors of a sharded model, by name, from its index file; and what lets their pages leave memory.

    Shards must lie beside the index: a name with a folder in it is refused.
    Raises ModelNotFoundError, ModelFileError.
    """
    weight_map = read_json_object(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(
            f"{index_path}: an object 'weight_map' of tensor to file was expected: download it again"
        )
    shards = {file: _open_shard(index_path, file) for file in _distinct_files(index_path, weight_map)}
    tensors = {name: _tensor_of_shard(index_path, shards[file], name) for name, file in weight_map.items()}
    mappings = [shard.mapping for shard in shards.values() if shard.mapping is not None]

    def release() -> None:
        for mapping in mappings:
            mapping.advise_dont_need()

    return tensors, release


def parse_safetensors(buffer: memoryview, name: str, mapping: MappedFile | None = None) -> SafetensorsFile:
    """Read a whole safetensors file from `buffer`; `name` is used in messages. Raises ModelFileError."""
    header, start = _header(buffer, name)
    metadata = _metadata(header.pop("__metadata__", {}), name)
    data = buffer[start:]
    tensors: dict[str, TensorSource] = {}
    places: list[tuple[int, int, str]] = []
    for key, entry in header.items():
        kind, shape, begin, end = _tensor_entry(entry, key, name)
        if end > len(data):
            raise _damaged(
                name, f"tensor {shown(key)} reaches to byte {end} of the data, there are {len(data)}"
            )
        tensors[key] = TensorSource(key, kind, shape, data[begin:end])
        places.append((begin, end, key))
    _check_places(places, len(data), name)
    return SafetensorsFile(name, tensors, metadata, start, mapping)


def write_safetensors(
    path: str | os.PathLike[str], tensors: Iterable[TensorSource], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors` (whole elements, [n][k] rows in order) as the file `path`, whole or not at all.

    Raises ModelFileError for a kind the format has no name for, OSError (full disk, no permission).
    """
    ordered = sorted((tensor.materialize() for tensor in tensors), key=_write_order)
    for tensor in ordered:
        _check_writable(tensor)
    entries = [(tensor.name, tensor.kind, tensor.shape) for tensor in ordered]
    header = encode_header(entries, metadata)
    with atomic_file(path) as file:
        file.write(header)
        for tensor in ordered:
            file.write(tensor.data)


def encode_header(
    entries: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """What a file begins with whose tensors follow in the order of `entries`: name, kind and shape of each.

    Raises ModelFileError for a name that is given twice.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, kind, shape in entries:
        if name in header or name == "__metadata__":
            raise ModelFileError(f"tensor {shown(name)} is given twice: names must differ")
        end = offset + math.prod(shape) * _ELEMENT_BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-(8 + len(encoded)) % _DATA_ALIGNMENT)
    return len(encoded).to_bytes(8, "little") + encoded


def _header(buffer: memoryview, name: str) -> tuple[dict[str, Any], int]:
    if len(buffer) < 10:
        raise _damaged(name, f"a safetensors file has at least 10 bytes, this one has {len(buffer)}")
    size = int.from_bytes(buffer[:8], "little")
    if size > MAX_HEADER_BYTES or 8 + size > len(buffer):
        raise _damaged(
            name,
            f"a header of up to {min(MAX_HEADER_BYTES, len(buffer) - 8)} bytes was expected, it says {size}",
        )
    return parse_json_object(buffer[8 : 8 + size].tobytes(), name, max_values=_MAX_HEADER_VALUES), 8 + size


def _metadata(value: object, name: str) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise _damaged(name, "'__metadata__' must be an object of text")


def _tensor_entry(entry: object, key: str, name: str) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(name, f"tensor {shown(key)}: exactly dtype, shape and data_offsets were expected")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _ELEMENT_BYTES:
        raise ModelFileError(
            f"{name}: tensor {shown(key)} is {shown(kind)}, weft reads {', '.join(_ELEMENT_BYTES)}: "
            "take the model in one of these"
        )
    if not _is_naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise _damaged(name, f"tensor {shown(key)}: a shape of up to {MAX_DIMENSIONS} extents was expected")
    if not _is_naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(name, f"tensor {shown(key)}: data_offsets must be [begin, end]")
    size, size_without_empty = _ELEMENT_BYTES[kind], _ELEMENT_BYTES[kind]
    for extent in shape:
        size *= extent
        size_without_empty *= max(extent, 1)
    if size_without_empty >= _MAX_TENSOR_BYTES:
        raise _damaged(
            name, f"tensor {shown(key)}: a shape of less than {_MAX_TENSOR_BYTES} bytes was expected"
        )
    if size != offsets[1] - offsets[0]:
        raise _damaged(
            name,
            f"tensor {shown(key)}: {kind} of shape {shape} takes {size} bytes, not {offsets[1] - offsets[0]}",
        )
    return kind, tuple(shape), offsets[0], offsets[1]


def _is_naturals(values: object) -> bool:
    # Below 2**63 each, so that products of extents stay numbers of a sane length.
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_places(places: list[tuple[int, int, str]], data_bytes: int, name: str) -> None:
    """Tensors must follow one another without gap or overlap, and fill the data exactly."""
    places.sort()
    reached = 0
    for begin, end, key in places:
        if begin != reached:
            fault = "overlaps the one before it" if begin < reached else "leaves a gap before it"
            raise _damaged(name, f"tensor {shown(key)} at bytes {begin} to {end} {fault}")
        reached = end
    if reached != data_bytes:
        raise _damaged(name, f"tensors end at byte {reached} of the data, there are {data_bytes}")


def _damaged(name: str, message: str) -> ModelFileError:
    return ModelFileError(f"{name}: {message}: the file is damaged; download or copy it again")


def _distinct_files(index_path: Path, weight_map: dict[str, Any]) -> list[str]:
    files = (
        dict.fromkeys(weight_map.values())
        if all(isinstance(f, str) for f in weight_map.values())
        else {"": None}
    )
    for file in files:
        if not file or "\0" in file or file in (".", "..") or file != os.path.basename(file) or "\\" in file:
            raise ModelFileError(
                f"{index_path}: weight_map must name files beside the index, it names {file!r}: refused; "
                "take the model from another source"
            )
    return list(files)


def _open_shard(index_path: Path, file: str) -> SafetensorsFile:
    try:
        return open_safetensors(index_path.parent / file)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{index_path} names the shard {file}, which is missing: fetch the model again"
        ) from error


def _tensor_of_shard(index_path: Path, shard: SafetensorsFile, name: str) -> TensorSource:
    if name not in shard.tensors:
        raise ModelFileError(
            f"{index_path} places tensor {shown(name)} in {shard.name}, which has no such tensor: "
            "fetch the model again"
        )
    return shard.tensors[name]


def _write_order(tensor: TensorSource) -> tuple[int, str]:
    # Wide elements first keeps every tensor aligned to its element.
    return -_ELEMENT_BYTES.get(tensor.kind, 0), tensor.name


def _check_writable(tensor: TensorSource) -> None:
    if tensor.kind not in _ELEMENT_BYTES or tensor.row_order is not None:
        raise ModelFileError(
            f"tensor {shown(tensor.name)} is {tensor.kind}"
            f"{' with reordered rows' if tensor.row_order is not None else ''}; safetensors holds "
            f"{', '.join(_ELEMENT_BYTES)} in order: dequantize it first"
        )
    if tensor.num_elements * _ELEMENT_BYTES[tensor.kind] != tensor.nbytes:
        raise ModelFileError(
            f"tensor {shown(tensor.name)} of shape {tensor.shape} does not have {tensor.nbytes} bytes"
        )
