"""What parameters of plans are bound to: packed weights, and arrays that plans read and add to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from weft.errors import ConfigError
from weft.runtime.native import native
from weft.runtime.pool import Pool
from weft.types import Array, TensorType, WeightType


@dataclass(frozen=True)
class WeightPart:
    """One matrix [n, k] of a weight, in a file's encoding: `kind` as in GGUF files ("F32", "BF16", "Q4_K",
    …).

    Row r of it is row `row_order[r]` of `data` where that is given.
    """

    kind: str
    n: int
    k: int
    data: Any
    row_order: Array | None = None

    def __post_init__(self) -> None:
        if max(abs(self.n), abs(self.k)) >= 1 << 63:
            raise ConfigError(f"Expected sizes of 64 bits, got {self.n} and {self.k}; correct them.")


class Weight:
    """A weight packed for products, [n, k]. Immutable; any thread may use it."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.type = _weight_type(handle)

    @classmethod
    def pack(
        cls, pool: Pool, parts: Sequence[WeightPart], interleave: bool = False, target: str | None = None
    ) -> Self:
        """Packs `parts`, joined along their outputs, on the threads of `pool`.

        interleave: two equal parts, gate and up, alternate, for a gated activation. target: requantize to
        "f32", "bf16", "q8", "int8" or "q4"; by default each kind of the file keeps its precision. Raises
        ConfigError for sizes that do not fit or values that are not finite, OutOfMemoryError.
        """
        plain = [(part.kind, part.n, part.k, part.data, part.row_order) for part in parts]
        return cls(native().Weight.pack(pool.handle, plain, interleave, target))

    @classmethod
    def from_packed(cls, header: Mapping[str, Any], data: Any) -> Self:
        """The weight whose `header` and `packed` bytes these were; `data` is not copied and is kept alive."""
        return cls(native().Weight.from_packed(dict(header), data))

    @property
    def header(self) -> dict[str, Any]:
        """What `from_packed` needs besides the bytes: plain values."""
        header: dict[str, Any] = self.handle.header
        return header

    @property
    def packed(self) -> memoryview:
        """The packed bytes, without a copy."""
        return memoryview(self.handle.packed)

    def dequantize(self) -> Array:
        """The weight as float32 [n, k], parts in their order."""
        return np.asarray(self.handle.dequantize())


class Tensor:
    """A float32 array, [n, k] or [size], that plans read and add to where it lies; it is kept alive.

    Runs use it without a lock: plans that add to one must not run at once. Raises ConfigError for an array
    that is not float32, C-contiguous and writable.
    """

    def __init__(self, array: Array) -> None:
        self.handle = native().Tensor(array)
        self.array = array
        self.type = TensorType(array.shape)

    def dequantize(self) -> Array:
        """The array itself."""
        return self.array


Bound = Weight | Tensor | Array
"""What a parameter of a plan is bound to."""


def _weight_type(handle: Any) -> WeightType:
    header = handle.header
    kind = "+".join(dict.fromkeys(header["kinds"]))
    return WeightType(handle.n, handle.k, kind, handle.nbytes, header["interleave"])
