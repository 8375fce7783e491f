"""bfloat16 in NumPy, which lacks it: the upper half of a float32, rounded to nearest, ties to even."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of each value as bfloat16, uint16 of the same shape."""
    import numpy as np

    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    # Rounding a NaN up could make an infinity of it.
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, np.uint16(0x7FC0), rounded)
