"""Fuzzes the GGUF reader: `python -m tests.fuzz.fuzz_gguf --runs 1000000 --seed 0`.

Half of the inputs are well-formed small files with random damage, half are built with lies in their
structure: counts, types, shapes, offsets, nesting.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

from tests.fuzz.mutation import EDGES, damage, main
from tests.io.gguf_builder import (
    ARRAY,
    BOOL,
    F32,
    I32,
    KINDS,
    STRING,
    U8,
    U32,
    U64,
    ArrayOf,
    GgufBuilder,
    string,
    tiny_model,
)
from weft.io.gguf.checkpoint import gguf_tensors
from weft.io.gguf.config import architecture_of, config_from_gguf
from weft.io.gguf.metadata import StringArray
from weft.io.gguf.reader import GgufFile, parse_gguf
from weft.io.kinds import WEIGHT_KINDS

CORPUS = Path(__file__).parent / "corpus"


def make(rng: random.Random) -> bytes:
    """One input."""
    if rng.random() < 0.5:
        return damage(rng.choice(_SEEDS), _SEEDS, rng)
    return _lying_file(rng)


def read(data: bytes) -> None:
    """Read `data` as a GGUF file and use all that it holds. Raises what the reader raises."""
    file = parse_gguf(memoryview(data), "fuzz")
    for value in file.metadata.values():
        if isinstance(value, StringArray):
            assert len(value.decode()) == len(value)
        elif isinstance(value, memoryview):
            value.tobytes()
    for tensor in file.tensors.values():
        assert tensor.nbytes == 0 or tensor.data[tensor.nbytes - 1] >= 0
    if "general.architecture" in file.metadata:
        _open_as_model(file)


def _open_as_model(file: GgufFile) -> None:
    config = config_from_gguf(file)
    for tensor in gguf_tensors(file, architecture_of(file), config).values():
        if tensor.kind in WEIGHT_KINDS and tensor.num_elements < 1 << 14:
            assert tensor.dequantize().shape == tensor.shape


def _seeds() -> list[bytes]:
    rich = GgufBuilder()
    rich.add("text", STRING, "a value").add("flag", BOOL, True).add("number", U64, 7).add("real", F32, 0.5)
    rich.add("numbers", ARRAY, ArrayOf(I32, range(9))).add("texts", ARRAY, ArrayOf(STRING, ["a", "", "ccc"]))
    rich.add("nested", ARRAY, ArrayOf(ARRAY, [ArrayOf(U8, [1]), ArrayOf(ARRAY, [ArrayOf(STRING, ["x"])])]))
    for kind, (elements, size) in WEIGHT_KINDS.items():
        rich.tensor(f"tensor.{kind}", kind, (2, elements), bytes(2 * size))
    aligned = (
        GgufBuilder(version=2, alignment=64)
        .add("general.alignment", U32, 64)
        .tensor("a", "F16", (3,), bytes(6))
    )
    model = tiny_model(width=32, vocab=8, layers=1)
    saved = [path.read_bytes() for path in sorted(CORPUS.glob("gguf-*.bin"))]
    return [GgufBuilder().build(), rich.build(), aligned.build(), model.build(), *saved]


def _lying_file(rng: random.Random) -> bytes:
    """A file whose parts are well-formed for themselves, with numbers that may not fit together."""
    num_tensors, num_metadata = rng.randrange(4), rng.randrange(4)
    parts = [b"GGUF", struct.pack("<I", rng.choice((3, 3, 3, 3, 2, 1, 4, 0x03000000)))]
    parts.append(struct.pack("<QQ", _count(num_tensors, rng), _count(num_metadata, rng)))
    parts += [string(rng.choice(_KEYS)) + _typed_value(rng, 0) for _ in range(num_metadata)]
    parts += [_tensor_info(number, rng) for number in range(num_tensors)]
    header = b"".join(parts)
    return header + bytes(-len(header) % 32) + bytes(rng.choice((0, 32, 64, 1000)))


_KEYS = (
    "general.alignment",
    "general.architecture",
    "llama.block_count",
    "a",
    "b",
    "tokenizer.ggml.tokens",
    "",
    "é",
)


def _count(true: int, rng: random.Random) -> int:
    return true if rng.random() < 0.9 else rng.choice(EDGES)


def _typed_value(rng: random.Random, depth: int) -> bytes:
    kind = rng.choice((*range(13), 4, 8, 9, 9, 13, 255))
    return struct.pack("<I", kind) + _untyped_value(kind, rng, depth)


def _untyped_value(kind: int, rng: random.Random, depth: int) -> bytes:
    if kind == STRING:
        text = rng.choice((b"", b"llama", b"gpt2", b"text", b"\xff\xfe", b"x" * 40))
        return struct.pack("<Q", _count(len(text), rng)) + text
    if kind == ARRAY:
        item, count = rng.choice((*range(13), 9, 9, 8, 14)), rng.randrange(4)
        items = [_untyped_value(item, rng, depth + 1) for _ in range(count)] if depth < 7 else []
        return struct.pack("<IQ", item, _count(len(items), rng)) + b"".join(items)
    size = {0: 1, 1: 1, 2: 2, 3: 2, 7: 1, 10: 8, 11: 8, 12: 8}.get(kind, 4)
    return struct.pack("<Q", rng.choice(EDGES))[:size]


def _tensor_info(number: int, rng: random.Random) -> bytes:
    name = rng.choice((f"t{number}", "same", "token_embd.weight", "rope_freqs.weight", "n" * 600))
    extents = [rng.choice((1, 2, 32, 64, 256, *EDGES)) for _ in range(rng.choice((1, 2, 2, 3, 4, 0, 5)))]
    kind = rng.choice((*KINDS.values(), *range(45), 2**32 - 1))
    offset = rng.choice((0, 32, 64, 1, *EDGES))
    dimensions = struct.pack(f"<I{len(extents)}Q", _count(len(extents), rng) & 0xFFFFFFFF, *extents)
    return string(name) + dimensions + struct.pack("<IQ", kind, offset)


_SEEDS = _seeds()

if __name__ == "__main__":
    main("GGUF", make, read)
