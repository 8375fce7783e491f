"""Dequantizers against the gguf package, on random blocks."""

from __future__ import annotations

import numpy as np
import pytest

from weft.errors import ModelFileError
from weft.io.gguf.blocks import dequantize
from weft.io.kinds import WEIGHT_KINDS


def random_blocks(kind: str, count: int) -> np.ndarray:
    """uint8 [count, block bytes] with finite scales."""
    rng = np.random.default_rng(sum(kind.encode()))
    elements, size = WEIGHT_KINDS[kind]
    raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if elements > 1:
        halves = rng.normal(size=(count, 2)).astype(np.float16).view(np.uint8)
        at, width = (208, 2) if kind == "Q6_K" else (0, 2 if kind in ("Q8_0", "Q4_0", "Q5_0") else 4)
        raw[:, at : at + width] = halves[:, :width]
    return raw


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_equal_to_the_gguf_package(kind: str) -> None:
    gguf = pytest.importorskip("gguf")
    raw = random_blocks(kind, 64)
    whole = raw.reshape(-1) if WEIGHT_KINDS[kind][0] == 1 else raw
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(whole, gguf.GGMLQuantizationType[kind])
    values = dequantize(kind, raw.tobytes())
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.asarray(expected, np.float32).reshape(-1))


def test_what_is_no_whole_block_is_refused() -> None:
    with pytest.raises(ModelFileError, match="blocks of 34 bytes"):
        dequantize("Q8_0", bytes(35))
    with pytest.raises(ModelFileError, match="IQ2_XS came"):
        dequantize("IQ2_XS", bytes(35))
    assert dequantize("Q4_K", b"").size == 0
