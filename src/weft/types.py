"""Element types, and the types of what an operation works on: matrices, vectors, weights and caches.

The legend of dimensions, used everywhere: B batch, T tokens, D features, H heads, V vocabulary; F features
inside a feed-forward block; N and K outputs and inputs of a linear layer. Rows of a matrix are tokens,
columns are features. The number of rows is known only when a plan runs, so a matrix names its row
dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from weft.errors import PlanError

Array = npt.NDArray[Any]

ROWS = "rows"  # tokens of this step
OUTPUTS = "outputs"  # those of them whose logits are wanted
SEQUENCES = "sequences"  # requests that the tokens belong to
BLOCKS = "blocks"  # entries of all block tables together

BLOCK_TOKENS = 32  # tokens in a block of the paged KV cache
INTERLEAVED_BLOCK = 16  # features of gate, then of up, that alternate in an interleaved weight


class DType(StrEnum):
    """The type of an element, by the name that plans and native code use."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I8 = "i8"
    I32 = "i32"
    U32 = "u32"
    I64 = "i64"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _ITEM_BYTES[self]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of the same layout. Raises PlanError for bf16, which NumPy lacks."""
        if self is DType.BF16:
            raise PlanError("Expected an element type that NumPy has, got bf16; convert it to f32 first.")
        return _NUMPY[self]


_ITEM_BYTES = {
    DType.F32: 4,
    DType.F16: 2,
    DType.BF16: 2,
    DType.I8: 1,
    DType.I32: 4,
    DType.U32: 4,
    DType.I64: 8,
}
_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.F32: np.dtype(np.float32),
    DType.F16: np.dtype(np.float16),
    DType.I8: np.dtype(np.int8),
    DType.I32: np.dtype(np.int32),
    DType.U32: np.dtype(np.uint32),
    DType.I64: np.dtype(np.int64),
}


@dataclass(frozen=True)
class MatrixType:
    """A matrix [rows, columns] whose number of rows is the run-time value of the dimension `rows`."""

    rows: str
    columns: int
    dtype: DType = DType.F32

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.columns * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{self.rows}, {self.columns}]"


@dataclass(frozen=True)
class VectorType:
    """A float32 vector of `size` elements: a norm's weight, a bias, rotary frequencies."""

    size: int

    def __str__(self) -> str:
        return f"f32[{self.size}]"


@dataclass(frozen=True)
class WeightType:
    """A packed weight of a linear layer, [n outputs, k inputs], of `nbytes` bytes.

    `kind` is the layout of its elements ("f32", "bf16", "q8", "int8", "q4", or several joined by "+"). An
    `interleaved` weight holds the outputs of two equal parts, gate and up, in turn, for a product with a
    gated activation.
    """

    n: int
    k: int
    kind: str
    nbytes: int
    interleaved: bool = False

    def __str__(self) -> str:
        return f"{self.kind}[{self.n}, {self.k}]"


@dataclass(frozen=True)
class TensorType:
    """A float32 array that training changes: a matrix [n, k] in rows, or a vector [size].

    Weights in training are tensors, and so are their gradients, to which operations add.
    """

    shape: tuple[int, ...]

    @property
    def n(self) -> int:
        """Rows: output features of a linear layer; 1 for a vector."""
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def k(self) -> int:
        """Columns: input features of a linear layer, elements of a vector."""
        return self.shape[-1]

    @property
    def size(self) -> int:
        """Elements."""
        return self.n * self.k

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * DType.F32.itemsize

    @property
    def interleaved(self) -> bool:
        """Never: rows are in their own order."""
        return False

    def __str__(self) -> str:
        return f"tensor{list(self.shape)}"


@dataclass(frozen=True)
class CacheType:
    """A paged cache of keys and values, for `layers` layers of `kv_heads` heads of `head_dim` features."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: DType = DType.F16

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token in one layer."""
        padding = self.head_dim % 2 if self.dtype is DType.BF16 else 0  # keys are whole pairs of features
        key_dim = self.head_dim + padding
        return self.kv_heads * (key_dim + self.head_dim) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{self.layers} layers, {self.kv_heads} heads, {self.head_dim}]"


OperandType = MatrixType | VectorType | WeightType | TensorType | CacheType
AnyWeight = WeightType | TensorType
AnyVector = VectorType | TensorType


class WeightHandle(Protocol):
    """A weight that a plan can be built over and run with: its type, and its content as float32."""

    @property
    def type(self) -> WeightType | TensorType:
        """Shape, kind and size."""

    def dequantize(self) -> Array:
        """The weight as float32 [n, k], parts in their order (an interleaved one too: gate rows, then up)."""
