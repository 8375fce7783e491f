"""GGUF's block encodings as NumPy: the reference for kernels, and the way small vectors are read.

The layouts are those of ggml's `ggml-common.h`; the element order in a block is as ggml stores it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from weft.errors import ModelFileError
from weft.io.kinds import WEIGHT_KINDS

Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def dequantize(kind: str, data: memoryview | bytes) -> Float32:
    """All elements of `data`, whole blocks of `kind`, as a flat float32 array. Raises ModelFileError."""
    if kind not in WEIGHT_KINDS:
        raise ModelFileError(f"a weight of kind {', '.join(WEIGHT_KINDS)} was expected, {kind} came")
    _, block_bytes = WEIGHT_KINDS[kind]
    raw = np.frombuffer(data, dtype=np.uint8)
    if raw.size % block_bytes:
        raise ModelFileError(f"{kind} data comes in blocks of {block_bytes} bytes, {raw.size} bytes came")
    if kind in _PLAIN:
        return _PLAIN[kind](raw)
    # Damaged scales are infinite or not numbers; so are then the weights, which is for others to refuse.
    with np.errstate(all="ignore"):
        return _BLOCKS[kind](raw.reshape(-1, block_bytes)).reshape(-1)


def _f32(raw: Bytes) -> Float32:
    return raw.view("<f4").astype(np.float32)


def _f16(raw: Bytes) -> Float32:
    return raw.view("<f2").astype(np.float32)


def _bf16(raw: Bytes) -> Float32:
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _half(blocks: Bytes, at: int) -> Float32:
    """The float16 at byte `at` of each block, [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Float32:
    """Low nibbles of 16 bytes, then their high nibbles: [blocks, 32]."""
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def _fifth_bits(blocks: Bytes, at: int) -> Float32:
    """Bit i of the 32-bit word at byte `at`, as 0 or 16 for element i: [blocks, 32]."""
    bits = np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little")
    return bits.astype(np.float32) * np.float32(16)


def _q8_0(blocks: Bytes) -> Float32:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(blocks: Bytes) -> Float32:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Bytes) -> Float32:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Float32:
    return _half(blocks, 0) * (_nibbles(blocks[:, 6:]) + _fifth_bits(blocks, 2) - 16)


def _q5_1(blocks: Bytes) -> Float32:
    return _half(blocks, 0) * (_nibbles(blocks[:, 8:]) + _fifth_bits(blocks, 4)) + _half(blocks, 2)


def _k_scales(packed: Bytes) -> tuple[Float32, Float32]:
    """Eight 6-bit scales and eight 6-bit minimums from 12 bytes: two arrays [blocks, 8]."""
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    minimums = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    return scales.astype(np.float32), minimums.astype(np.float32)


def _k_nibbles(packed: Bytes) -> NDArray[np.uint8]:
    """128 bytes as 8 groups of 32: each 32 bytes give a group of low nibbles, then one of high ones."""
    quarters = packed.reshape(-1, 4, 1, 32)
    return np.concatenate([quarters & 15, quarters >> 4], axis=2).reshape(-1, 8, 32)


def _k_affine(blocks: Bytes, quants: NDArray[np.uint8]) -> Float32:
    scales, minimums = _k_scales(blocks[:, 4:16])
    scale = (_half(blocks, 0) * scales)[:, :, None]
    minimum = (_half(blocks, 2) * minimums)[:, :, None]
    return scale * quants.astype(np.float32) - minimum


def _q4_k(blocks: Bytes) -> Float32:
    return _k_affine(blocks, _k_nibbles(blocks[:, 16:144]))


def _q5_k(blocks: Bytes) -> Float32:
    fifth: Bytes = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & np.uint8(1)
    return _k_affine(blocks, _k_nibbles(blocks[:, 48:176]) | (fifth << np.uint8(4)))


def _q6_k(blocks: Bytes) -> Float32:
    low = blocks[:, 0:128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    quants = (low | ((high & 3) << 4)).astype(np.float32).reshape(-1, 16, 16) - 32
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)[:, :, None]
    return _half(blocks, 208)[:, :, None] * scales * quants


_PLAIN: dict[str, Callable[[Bytes], Float32]] = {"F32": _f32, "F16": _f16, "BF16": _bf16}
_BLOCKS: dict[str, Callable[[Bytes], Float32]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
