"""Reads GGUF files (versions 2 and 3) through a mapping: metadata and tensors, checked, nothing copied.

Format: ggml's `docs/gguf.md`. A header is trusted for nothing: counts, lengths, nesting, shapes, offsets
and sizes are compared with the file before they are used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from weft.errors import ModelFileError
from weft.io.gguf.metadata import MAX_KEY_BYTES, Cursor, MetadataValue, StringArray
from weft.io.kinds import PLAIN_KINDS, WEIGHT_KINDS
from weft.io.mapped_file import MappedFile
from weft.io.messages import shown
from weft.io.tensor_source import TensorSource

MAX_METADATA = 1 << 16
MAX_TENSORS = 1 << 16
MAX_TENSOR_NAME_BYTES = 512
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20

# ggml's type numbers (`ggml.h`), also of those that weft only names.
_TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32",
    27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
_BLOCKS = WEIGHT_KINDS | PLAIN_KINDS


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file holds. Immutable, so it may be read from several threads.

    Tensors keep the file's own names; shapes are rows first (ggml's extents reversed).
    """

    name: str
    version: int
    metadata: dict[str, MetadataValue]
    tensors: dict[str, TensorSource]
    header_bytes: int
    mapping: MappedFile | None = None

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number at `key`; ModelFileError when it is missing (and no default is given) or other."""
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number", value)
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "text", value)
        return value

    def strings(self, key: str) -> list[str]:
        """The array of strings at `key`, decoded."""
        value = self.metadata.get(key)
        if not isinstance(value, StringArray):
            raise self._wrong(key, "an array of strings", value)
        return value.decode()

    def numbers(self, key: str) -> memoryview | None:
        """The array of numbers at `key` as a typed view, or None when there is none."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, memoryview):
            raise self._wrong(key, "an array of numbers", value)
        return value

    def _wrong(self, key: str, expected: str, value: object) -> ModelFileError:
        came = "nothing" if value is None else f"a {type(value).__name__}"
        return ModelFileError(
            f"{self.name}: metadata {shown(key)} must be {expected}, {came} is there: convert the model again"
        )


def open_gguf(path: str | os.PathLike[str]) -> GgufFile:
    """Map and check the GGUF file at `path`. Raises ModelNotFoundError, ModelFileError."""
    mapping = MappedFile(path)
    return parse_gguf(mapping.view, str(mapping.path), mapping)


def parse_gguf(buffer: memoryview, name: str, mapping: MappedFile | None = None) -> GgufFile:
    """Read a whole GGUF file from `buffer` (bytes); `name` is used in messages. Raises ModelFileError."""
    cursor = Cursor(buffer, name)
    version = _version(cursor)
    num_tensors, num_metadata = cursor.u64(), cursor.u64()
    if num_tensors > MAX_TENSORS or num_metadata > MAX_METADATA:
        raise cursor.error(
            f"at most {MAX_TENSORS} tensors and {MAX_METADATA} metadata entries were expected, "
            f"the header says {num_tensors} and {num_metadata}"
        )
    metadata = _metadata(cursor, num_metadata)
    infos = [_tensor_info(cursor) for _ in range(num_tensors)]
    header_bytes = cursor.position
    tensors = _place(cursor, infos, _alignment(cursor, metadata))
    return GgufFile(name, version, metadata, tensors, header_bytes, mapping)


def _version(cursor: Cursor) -> int:
    if bytes(cursor.buffer[:4]) != b"GGUF":
        raise ModelFileError(
            f"{cursor.name} is not a GGUF file: it starts with {bytes(cursor.buffer[:4])!r}, not with b'GGUF'"
        )
    cursor.position = 4
    version = cursor.u32()
    if version in (2, 3):
        return version
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    came = f"a big-endian file of version {swapped}" if swapped in (2, 3) else f"version {version}"
    raise ModelFileError(
        f"{cursor.name}: weft reads little-endian GGUF versions 2 and 3, this is {came}: "
        "convert the model again with a current llama.cpp"
    )


def _metadata(cursor: Cursor, count: int) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {}
    for _ in range(count):
        key = cursor.text("a metadata key", MAX_KEY_BYTES)
        if key in metadata:
            raise cursor.error(f"metadata {shown(key)} is there twice")
        metadata[key] = cursor.value(key)
    return metadata


def _alignment(cursor: Cursor, metadata: dict[str, MetadataValue]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if isinstance(alignment, int) and 0 < alignment <= MAX_ALIGNMENT and not alignment & (alignment - 1):
        return alignment
    raise cursor.error(
        f"general.alignment must be a power of two up to {MAX_ALIGNMENT}, it is {shown(alignment)}"
    )


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def _tensor_info(cursor: Cursor) -> _TensorInfo:
    name = cursor.text("a tensor name", MAX_TENSOR_NAME_BYTES)
    num_dimensions = cursor.u32()
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise cursor.error(
            f"tensor {shown(name)} has {num_dimensions} dimensions, 1 to {MAX_DIMENSIONS} were expected"
        )
    extents = cursor.u64s(num_dimensions)
    kind = _kind(cursor, name, cursor.u32())
    offset = cursor.u64()
    return _TensorInfo(name, kind, extents[::-1], offset, _size(cursor, name, kind, extents))


def _kind(cursor: Cursor, name: str, number: int) -> str:
    kind = _TYPE_NAMES.get(number, f"type {number}")
    if kind in _BLOCKS:
        return kind
    raise ModelFileError(
        f"{cursor.name}: tensor {shown(name)} is {kind}, weft reads {', '.join(WEIGHT_KINDS)}: take another "
        "file of the same model, or convert it with llama-quantize (for instance to Q4_K_M or Q8_0)"
    )


def _size(cursor: Cursor, name: str, kind: str, extents: tuple[int, ...]) -> int:
    elements, block_bytes = _BLOCKS[kind]
    if min(extents) < 1 or extents[0] % elements:
        raise cursor.error(
            f"tensor {shown(name)} has shape {extents[::-1]}: extents of at least 1 and rows of whole "
            f"{kind} blocks ({elements} elements) were expected"
        )
    blocks = extents[0] // elements
    for extent in extents[1:]:
        blocks *= extent
    size = blocks * block_bytes
    if size > len(cursor.buffer):
        raise cursor.error(
            f"tensor {shown(name)} of shape {extents[::-1]} takes {size} bytes, "
            f"the file has {len(cursor.buffer)}"
        )
    return size


def _place(cursor: Cursor, infos: list[_TensorInfo], alignment: int) -> dict[str, TensorSource]:
    """Check that tensors lie apart, aligned, inside the file, under distinct names; return views of them."""
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, TensorSource] = {}
    for info in infos:
        if info.name in tensors:
            raise cursor.error(f"tensor {shown(info.name)} is there twice")
        if info.offset % alignment:
            raise cursor.error(
                f"tensor {shown(info.name)} lies at offset {info.offset}, not at a multiple of {alignment}"
            )
        first, last = start + info.offset, start + info.offset + info.nbytes
        if last > len(cursor.buffer):
            raise cursor.error(
                f"tensor {shown(info.name)} reaches to byte {last}, the file has {len(cursor.buffer)}"
            )
        tensors[info.name] = TensorSource(info.name, info.kind, info.shape, cursor.buffer[first:last])
    _check_apart(cursor, infos)
    return tensors


def _check_apart(cursor: Cursor, infos: list[_TensorInfo]) -> None:
    end, before = 0, ""
    for info in sorted(infos, key=lambda info: info.offset):
        if info.offset < end:
            raise cursor.error(f"tensors {shown(before)} and {shown(info.name)} overlap")
        end, before = info.offset + info.nbytes, info.name
