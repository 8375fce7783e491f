"""Fuzzes the native readers of weights: `python -m tests.fuzz.fuzz_weights --runs 100000 --seed 0`.

Blocks of every kind with sizes, row orders and kinds that lie are packed; what was packed is read back by
headers and bytes that lie. An input is the seed of all that.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from tests.fuzz.mutation import EDGES, main
from weft.errors import WeftError
from weft.io.kinds import WEIGHT_KINDS
from weft.runtime import Pool, Weight, WeightPart

_NUMBERS = (*EDGES, -1, -5, -(2**31), -(2**63))
_ODD = (*_NUMBERS, "x", None, 1.5, [], [1], {}, True, "q4", ["Q4_1"])
_TARGETS = (None, None, "q8", "int8", "q4", "bf16", "f32")


def make(rng: random.Random) -> bytes:
    """One input."""
    return rng.randbytes(8)


def read(data: bytes) -> None:
    """Pack a weight and read it back as `data` says. Raises what packing raises."""
    rng = random.Random(data)
    part = _part(rng)
    for _ in range(rng.choice((0, 1, 1, 2))):
        part = _lying(part, rng)
    weight = Weight.pack(_pool(), [part] * rng.choice((1, 1, 2)), rng.random() < 0.3, rng.choice(_TARGETS))
    assert weight.dequantize().shape == (weight.type.n, weight.type.k)
    for _ in range(3):
        _read_back(weight, rng)


def _part(rng: random.Random) -> WeightPart:
    kind = rng.choice(list(WEIGHT_KINDS))
    n, k = rng.choice((1, 2, 16, 31, 32, 33, 64)), 256 * rng.choice((1, 1, 2))
    elements, size = WEIGHT_KINDS[kind]
    num_bytes = n * k // elements * size
    data = rng.randbytes(num_bytes) if rng.random() < 0.2 else bytes(num_bytes)
    return WeightPart(kind, n, k, data, np.arange(n, dtype=np.int32) if rng.random() < 0.5 else None)


def _lying(part: WeightPart, rng: random.Random) -> WeightPart:
    """`part` with one thing said of it that need not be true."""
    match rng.randrange(6):
        case 0:
            return replace(part, n=rng.choice(_NUMBERS))
        case 1:
            return replace(part, k=rng.choice(_NUMBERS))
        case 2:
            return replace(part, data=part.data[: rng.choice((0, 1, len(part.data) // 2, -1))])
        case 3:
            return replace(part, kind=rng.choice([*WEIGHT_KINDS, "Q2_K", "", "I32"]))
        case 4:
            return replace(part, row_order=np.arange(rng.choice((0, 1, 5, 1000)), dtype=np.int32))
    order = np.arange(33, dtype=np.int32)
    order[rng.randrange(33)] = rng.choice((-1, 32, 33, 2**31 - 1, -(2**31)))
    return replace(part, row_order=order)


def _read_back(weight: Weight, rng: random.Random) -> None:
    header = {
        key: list(value) if isinstance(value, list | tuple) else value for key, value in weight.header.items()
    }
    for _ in range(rng.choice((0, 1, 1, 2))):
        _lie_in_header(header, rng)
    packed = bytes(weight.packed)
    if rng.random() < 0.3:
        packed = packed[: rng.choice((0, 1, len(packed) // 2, -1))]
    try:
        again = Weight.from_packed(header, packed)
    except WeftError:
        return
    assert again.dequantize().size == again.type.n * again.type.k


def _lie_in_header(header: dict[str, Any], rng: random.Random) -> None:
    key = rng.choice(list(header) or [""])
    content = header.get(key)
    if isinstance(content, list) and content and rng.random() < 0.7:
        place = rng.randrange(len(content))
        if isinstance(content[place], dict) and content[place] and rng.random() < 0.8:
            content[place] = content[place] | {rng.choice(list(content[place])): rng.choice(_ODD)}
        else:
            content[place] = rng.choice(_ODD)
    elif rng.random() < 0.1:
        header.pop(key, None)
    else:
        header[key] = rng.choice(_ODD)


def _pool() -> Pool:
    if not _pools:
        _pools.append(Pool(1))
    return _pools[0]


_pools: list[Pool] = []

if __name__ == "__main__":
    main("packed weights", make, read)
