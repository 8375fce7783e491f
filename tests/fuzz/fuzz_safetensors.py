"""Fuzzes the safetensors reader: `python -m tests.fuzz.fuzz_safetensors --runs 1000000 --seed 0`.

Half of the inputs are well-formed small files with random damage, half are built from headers that lie.
"""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

from tests.fuzz.mutation import EDGES, damage, main
from weft.io.kinds import PLAIN_KINDS, WEIGHT_KINDS
from weft.io.safetensors import parse_safetensors

CORPUS = Path(__file__).parent / "corpus"


def make(rng: random.Random) -> bytes:
    """One input."""
    if rng.random() < 0.5:
        return damage(rng.choice(_SEEDS), _SEEDS, rng)
    return _lying_file(rng)


def read(data: bytes) -> None:
    """Read `data` as a safetensors file and use all that it holds. Raises what the reader raises."""
    file = parse_safetensors(memoryview(data), "fuzz")
    for tensor in file.tensors.values():
        assert tensor.nbytes == 0 or tensor.data[tensor.nbytes - 1] >= 0
        if tensor.kind in WEIGHT_KINDS:
            assert tensor.dequantize().shape == tensor.shape


def file_of(header: Any, data: bytes, length: int | None = None) -> bytes:
    """A file of `header` (JSON, or bytes as they are) and `data`, with a length that may lie."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def _seeds() -> list[bytes]:
    simple = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    several: dict[str, Any] = {"__metadata__": {"format": "pt", "note": "é"}}
    offset = 0
    for kind, (block, size) in (WEIGHT_KINDS | PLAIN_KINDS).items():
        if block == 1:
            several[f"tensor.{kind}"] = {
                "dtype": kind,
                "shape": [3],
                "data_offsets": [offset, offset + 3 * size],
            }
            offset += 3 * size
    empty = {"none": {"dtype": "F16", "shape": [0, 4], "data_offsets": [0, 0]}}
    scalar = {"s": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}}
    files = [
        file_of(simple, bytes(16)),
        file_of(several, bytes(offset)),
        file_of(empty, b""),
        file_of(scalar, bytes(2)),
        file_of({}, b""),
        file_of(b"[" * 2000, b""),
        file_of(b'{"a":' * 500, b""),
    ]
    return files + [path.read_bytes() for path in sorted(CORPUS.glob("safetensors-*.bin"))]


def _lying_file(rng: random.Random) -> bytes:
    size = rng.choice((0, 4, 16, 64))
    header = {rng.choice(_NAMES): _entry(size, rng) for _ in range(rng.randrange(4))}
    if rng.random() < 0.2:
        header["__metadata__"] = rng.choice(({}, {"a": "b"}, {"a": 1}, [], "text", None, {"a": {"b": "c"}}))
    encoded = json.dumps(header).encode()
    if rng.random() < 0.1:
        encoded = encoded[:-1] + b"," + encoded[1:]
    length = len(encoded) if rng.random() < 0.9 else rng.choice(EDGES)
    return file_of(encoded, bytes(size), length & 0xFFFFFFFFFFFFFFFF)


_NAMES = ("a", "b", "model.embed_tokens.weight", "", "__metadata__", "\x00", "é" * 50)
_ODD = (-1, 1.5, "1", None, True, [], {}, 10**30, 1e308)


def _entry(size: int, rng: random.Random) -> Any:
    kind = rng.choice(("F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "", 3, None, "f32"))
    shape: Any = rng.choice(
        ([size // 4], [size // 2], [2, size // 8], [], [0], list(rng.choices(EDGES, k=3)))
    )
    begin, end = rng.choice((0, 0, 0, 4, *EDGES)), rng.choice((size, size, size // 2, *EDGES))
    entry: dict[str, Any] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    if rng.random() < 0.2:
        entry[rng.choice(("dtype", "shape", "data_offsets", "extra"))] = rng.choice(_ODD)
    if rng.random() < 0.1:
        entry["shape"] = [rng.choice(_ODD)]
    if rng.random() < 0.05:
        entry["data_offsets"] = [rng.choice(_ODD), rng.choice(_ODD)]
    return entry if rng.random() < 0.95 else rng.choice(_ODD)


_SEEDS = _seeds()

if __name__ == "__main__":
    main("safetensors", make, read)
