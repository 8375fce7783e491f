"""The values in a GGUF file's header: a cursor that never reads past the end, and arrays read on demand.

Format: ggml's `docs/gguf.md`, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from weft.errors import ModelFileError
from weft.io.messages import shown

MAX_KEY_BYTES = 65535
MAX_STRING_BYTES = 1 << 24
MAX_STRINGS = 1 << 22
MAX_SCALARS = 1 << 26
MAX_NESTED_ARRAYS = 4096
MAX_NESTING = 4

_STRING, _ARRAY = 8, 9
# Type number -> (struct format, bytes). Bool is read as a byte, since files hold other values than 0 and 1.
_SCALARS: dict[int, tuple[str, int]] = {
    0: ("B", 1),
    1: ("b", 1),
    2: ("H", 2),
    3: ("h", 2),
    4: ("I", 4),
    5: ("i", 4),
    6: ("f", 4),
    7: ("B", 1),
    10: ("Q", 8),
    11: ("q", 8),
    12: ("d", 8),
}
_READERS = {number: struct.Struct("<" + code).unpack_from for number, (code, _) in _SCALARS.items()}
_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from
_array_head = struct.Struct("<IQ").unpack_from


class StringArray:
    """`len()` strings of the file, decoded when asked for: a vocabulary costs nothing until it is used."""

    __slots__ = ("_count", "_data", "_name")

    def __init__(self, data: memoryview, count: int, name: str) -> None:
        self._data = data
        self._count = count
        self._name = name

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.decode())

    def decode(self) -> list[str]:
        """All strings. Bytes that are not UTF-8 become U+FFFD, as a name that no text will ever match."""
        data, position, strings = self._data.tobytes(), 0, []
        for _ in range(self._count):
            start = position + 8
            position = start + _u64(data, position)[0]
            strings.append(data[start:position].decode("utf-8", "replace"))
        return strings


Scalar = int | float | bool | str
MetadataValue = Scalar | StringArray | memoryview | list["MetadataValue"]


class Cursor:
    """Reads a GGUF header from front to back; every read is checked against the end of the buffer."""

    __slots__ = ("_nested_arrays", "buffer", "name", "position")

    def __init__(self, buffer: memoryview, name: str, position: int = 0) -> None:
        self.buffer = buffer
        self.name = name
        self.position = position
        self._nested_arrays = 0

    def u32(self) -> int:
        value: int = _u32(self._take(4), 0)[0]
        return value

    def u64(self) -> int:
        value: int = _u64(self._take(8), 0)[0]
        return value

    def u64s(self, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}Q", self._take(8 * count))

    def text(self, what: str, limit: int) -> str:
        """A length-prefixed UTF-8 string of at most `limit` bytes; `what` names it in errors."""
        size = self.u64()
        if size > limit:
            raise self.error(f"{what} of at most {limit} bytes was expected, its length says {size}")
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} at byte {self.position - size} is not UTF-8") from error

    def value(self, key: str) -> MetadataValue:
        """One typed value: a scalar, text, or an array (numbers: a typed memoryview, text: StringArray)."""
        kind = self.u32()
        if kind == _STRING:
            return self.text(f"the value of {shown(key)}", MAX_STRING_BYTES)
        if kind == _ARRAY:
            return self._array(key, 1)
        if kind not in _SCALARS:
            raise self.error(f"{shown(key)} has a value of type {kind}, types 0 to 12 are known")
        scalar: int | float = _READERS[kind](self._take(_SCALARS[kind][1]), 0)[0]
        return bool(scalar) if kind == 7 else scalar

    def error(self, message: str) -> ModelFileError:
        return ModelFileError(f"{self.name}: {message}: the file is damaged; download or copy it again")

    def _take(self, size: int) -> memoryview:
        start = self.position
        end = start + size
        if end > len(self.buffer):
            raise self.error(
                f"{size} bytes were expected at byte {start}, the file ends at byte {len(self.buffer)}"
            )
        self.position = end
        return self.buffer[start:end]

    def _array(self, key: str, depth: int) -> MetadataValue:
        kind, count = _array_head(self._take(12), 0)
        if kind == _STRING:
            return self._strings(key, count)
        if kind == _ARRAY:
            return self._arrays(key, count, depth)
        if kind not in _SCALARS:
            raise self.error(f"{shown(key)} is an array of type {kind}, types 0 to 12 are known")
        code, width = _SCALARS[kind]
        if count > MAX_SCALARS:
            raise self.error(
                f"{shown(key)} has at most {MAX_SCALARS} values in files weft reads, it says {count}"
            )
        numbers: memoryview = self._take(count * width).cast(code)  # type: ignore[call-overload]
        return numbers

    def _arrays(self, key: str, count: int, depth: int) -> MetadataValue:
        self._nested_arrays += count
        if depth >= MAX_NESTING or self._nested_arrays > MAX_NESTED_ARRAYS:
            raise self.error(
                f"{shown(key)} nests arrays more than {MAX_NESTING} deep or {MAX_NESTED_ARRAYS} in number"
            )
        return [self._array(key, depth + 1) for _ in range(count)]

    def _strings(self, key: str, count: int) -> StringArray:
        buffer, start, end = self.buffer, self.position, len(self.buffer)
        if count > MAX_STRINGS or count > (end - start) // 8:
            raise self.error(f"{shown(key)} says it has {count} strings, more than the file can hold")
        position = start
        try:
            for _ in range(count):
                position += 8 + _u64(buffer, position)[0]
        except (struct.error, OverflowError):
            position = end + 1
        if position > end:
            raise self.error(f"{shown(key)} has a string that reaches beyond the end of the file")
        self.position = position
        return StringArray(buffer[start:position], count, key)
