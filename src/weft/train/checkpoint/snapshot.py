"""Arrays as they are now, for a thread that writes them while training goes on.

Weights change only in the update at the end of a step. What the writer has taken by then needs no copy; what
it has not is copied just before. So a snapshot costs no memory where the disk keeps up.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from weft.types import Array

_CHUNK_BYTES = 8 << 20


@dataclass
class _Chunk:
    data: memoryview
    taken: bool = False


class Snapshot:
    """The arrays' bytes, in the order of the mapping. One thread takes chunks, another one detaches."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._lock = threading.Lock()
        self._chunks = {name: list(_chunks(array)) for name, array in arrays.items()}
        self.shapes = {name: array.shape for name, array in arrays.items()}

    def chunks(self, name: str) -> Generator[memoryview, None, None]:
        """The bytes of array `name`, a chunk at a time, each used up before the next. Close it afterwards."""
        for chunk in self._chunks[name]:
            # Held while the caller uses the bytes, so that nobody changes them meanwhile.
            with self._lock:
                yield chunk.data
                chunk.taken = True
                chunk.data = memoryview(b"")

    def detach(self) -> None:
        """Copies what was not taken yet; then the arrays may change. Waits for the chunk in use."""
        for chunks in self._chunks.values():
            for chunk in chunks:
                with self._lock:
                    if not chunk.taken:
                        chunk.data = memoryview(bytes(chunk.data))
                        chunk.taken = True


def _chunks(array: Array) -> Iterator[_Chunk]:
    data = np.ascontiguousarray(array).reshape(-1).data.cast("B") if array.size else memoryview(b"")
    for begin in range(0, len(data), _CHUNK_BYTES):
        yield _Chunk(data[begin : begin + _CHUNK_BYTES])
