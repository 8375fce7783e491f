"""Writes GGUF files, version 3: a header of metadata and tensor places, then the tensors, aligned.

Format: ggml's `docs/gguf.md`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weft.errors import ConfigError
from weft.io.atomic_file import atomic_file
from weft.io.bfloat16 import to_bfloat16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GGUF_KINDS = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8}
_ALIGNMENT = 32
_BLOCK = 32  # elements of a block of Q8_0
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


@dataclass(frozen=True)
class GgufTensor:
    """A float32 tensor to write as `kind`, one of GGUF_KINDS."""

    name: str
    array: NDArray[np.float32]
    kind: str

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        size: int = self.array.size
        return {"f32": size * 4, "f16": size * 2, "bf16": size * 2, "q8_0": size // _BLOCK * 34}[self.kind]


def write_gguf(
    path: str | os.PathLike[str], metadata: Mapping[str, Any], tensors: Sequence[GgufTensor]
) -> None:
    """Makes `path` a GGUF file, whole or not at all. Tensors are encoded one at a time.

    metadata: texts, whole numbers below 2³², float32 numbers, truth values, and lists of one of texts, whole
    numbers (int32) or numbers. Raises ConfigError for others, OSError.
    """
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    header += [_string(key) + _value(key, value) for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        extents = tensor.array.shape[::-1]
        places = struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, GGUF_KINDS[tensor.kind], offset)
        header.append(_string(tensor.name) + places)
        offset += _aligned(tensor.nbytes)
    head = b"".join(header)
    with atomic_file(path) as file:
        file.write(head + bytes(_aligned(len(head)) - len(head)))
        for tensor in tensors:
            file.write(encode(tensor))
            file.write(bytes(_aligned(tensor.nbytes) - tensor.nbytes))


def fitting_kind(array: NDArray[np.float32], kind: str) -> str:
    """`kind` where the tensor can be held so: vectors stay float32, rows of Q8_0 are whole blocks."""
    if array.ndim == 1:
        return "f32"
    return "f16" if kind == "q8_0" and array.shape[-1] % _BLOCK else kind


def encode(tensor: GgufTensor) -> memoryview:
    """The tensor's bytes in the file."""
    import numpy as np

    array = np.ascontiguousarray(tensor.array, np.float32)
    match tensor.kind:
        case "f16":
            return _bytes(array.astype(np.float16))
        case "bf16":
            return _bytes(to_bfloat16(array))
        case "q8_0":
            return _bytes(_q8_0(array))
        case _:
            return _bytes(array)


def _q8_0(array: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blocks of 32: a float16 scale, the largest magnitude by 127, and the values in it as int8."""
    import numpy as np

    blocks = array.reshape(-1, _BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    encoded = np.empty((len(blocks), 34), np.uint8)
    encoded[:, :2] = scale.astype(np.float16).view(np.uint8)
    encoded[:, 2:] = np.rint(blocks * inverse).astype(np.int8).view(np.uint8)
    return encoded


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).data.cast("B")


def _aligned(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(key: str, value: Any) -> bytes:
    """A value with its type before it."""
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, list) and value:
        return struct.pack("<I", _ARRAY) + _items(key, value)
    raise ConfigError(f"Expected a value that GGUF holds for {key}, got {value!r}; leave it out.")


def _items(key: str, items: list[Any]) -> bytes:
    kinds = {type(item) for item in items}
    if kinds == {str}:
        return struct.pack("<IQ", _STRING, len(items)) + b"".join(_string(item) for item in items)
    if kinds == {int}:
        return struct.pack(f"<IQ{len(items)}i", _I32, len(items), *items)
    if kinds == {float}:
        return struct.pack(f"<IQ{len(items)}f", _F32, len(items), *items)
    raise ConfigError(f"Expected items of one kind for {key}, got {kinds}; make them so.")
