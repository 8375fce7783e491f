"""Weights as the blocks of every GGUF kind: by the gguf package where it can, by plain arithmetic elsewhere.

The layouts of the K kinds are those of ggml's `block_q4_K`, `block_q5_K` and `block_q6_K`. The choice of
scales is the simplest that is valid, not the one of least error: decoders are under test here.
"""

from __future__ import annotations

import numpy as np

from weft.types import Array

SUPER = 256  # elements of a super-block of the K kinds


def encode(kind: str, weights: Array) -> bytes:
    """The blocks of float32 `weights` [rows, K]; K must be a multiple of the kind's block."""
    import gguf

    if kind in ("Q4_K", "Q5_K"):
        return _scaled_with_minimum(weights, bits=4 if kind == "Q4_K" else 5).tobytes()
    if kind == "Q6_K":
        return _q6_k(weights).tobytes()
    number = gguf.GGMLQuantizationType[kind]
    return np.ascontiguousarray(gguf.quants.quantize(weights, number)).tobytes()


def decode(kind: str, blocks: bytes, shape: tuple[int, int]) -> Array:
    """What the blocks stand for, float32 of `shape`, by the gguf package."""
    import gguf

    number = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[number]
    raw = np.frombuffer(blocks, np.uint8)
    raw = raw if kind in ("F32", "F16", "BF16") else raw.reshape(-1, size)
    return np.asarray(gguf.quants.dequantize(raw, number), np.float32).reshape(shape)


def _scaled_with_minimum(weights: Array, bits: int) -> Array:
    """Q4_K and Q5_K: eight groups of 32 with a 6-bit scale and a 6-bit minimum each."""
    groups = weights.reshape(-1, 8, 32).astype(np.float64)
    levels = (1 << bits) - 1
    minima = np.maximum(-groups.min(axis=2), 0)
    scales = (np.maximum(groups.max(axis=2), 0) + minima) / levels
    d, dmin = (values.max(axis=1).astype(np.float64) / 63 for values in (scales, minima))
    d, dmin = (np.where(unit > 0, unit, 1).astype(np.float16) for unit in (d, dmin))
    coded_scales, coded_minima = (
        np.clip(np.rint(values / unit.astype(np.float64)[:, None]), 0, 63).astype(np.uint8)
        for values, unit in ((scales, d), (minima, dmin))
    )
    step = d.astype(np.float64)[:, None] * coded_scales
    offset = dmin.astype(np.float64)[:, None] * coded_minima
    codes = np.rint((groups + offset[..., None]) / np.where(step > 0, step, 1)[..., None])
    codes = np.clip(codes, 0, levels).astype(np.uint8)
    pairs = codes.reshape(-1, 4, 2, 32)
    low = (pairs[:, :, 0] & 15) | (pairs[:, :, 1] & 15) << 4
    parts = [d.view(np.uint8).reshape(-1, 2), dmin.view(np.uint8).reshape(-1, 2)]
    parts.append(_packed_scales(coded_scales, coded_minima))
    if bits == 5:
        highest = np.zeros((len(codes), 32), np.uint8)
        for group in range(8):
            highest |= (codes[:, group] >> 4) << group
        parts.append(highest)
    return np.concatenate([*parts, low.reshape(-1, 128)], axis=1)


def _packed_scales(scales: Array, minima: Array) -> Array:
    """Eight 6-bit scales and eight 6-bit minima in 12 bytes: high bits of the last four apart."""
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = minima[:, :4] | (minima[:, 4:] >> 4) << 6
    third = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=1)


def _q6_k(weights: Array) -> Array:
    """Q6_K: sixteen groups of 16 with a signed 8-bit scale each, codes of 6 bits around 32."""
    groups = weights.reshape(-1, 16, 16).astype(np.float64)
    scales = np.abs(groups).max(axis=2) / 31
    unit = scales.max(axis=1) / 127
    d = np.where(unit > 0, unit, 1).astype(np.float16)
    coded = np.clip(np.rint(scales / d.astype(np.float64)[:, None]), 1, 127).astype(np.int8)
    step = d.astype(np.float64)[:, None] * coded
    codes = np.clip(np.rint(groups / step[..., None]) + 32, 0, 63).astype(np.uint8)
    quarters = codes.reshape(-1, 2, 4, 32)
    low = np.concatenate(
        [(quarters[:, :, part] & 15) | (quarters[:, :, part + 2] & 15) << 4 for part in (0, 1)], axis=2
    )
    high = np.zeros((len(codes), 2, 32), np.uint8)
    for part in range(4):
        high |= (quarters[:, :, part] >> 4) << 2 * part
    tail = [coded.view(np.uint8), d.view(np.uint8).reshape(-1, 2)]
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), *tail], axis=1)
