"""One tensor of a model file: its kind, shape, and bytes, still in the file's own encoding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from weft.errors import ModelFileError
from weft.io.kinds import WEIGHT_KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorSource:
    """A tensor where it lies: a view of the mapped file and what is needed to read it.

    `shape` is (n, k) for a matrix of n output features over k inputs, (n,) for a vector, as the model
    uses it; rows are contiguous. Row r of the tensor is row `row_order[r]` of `data` where `row_order`
    (int32 [n]) is given. `transposed` says that `data` holds [k][n] instead of [n][k] (the linear layers of
    GPT-2 in Hugging Face files, kinds F32, F16, BF16 only); `materialize()` turns such a tensor round.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data: memoryview
    row_order: NDArray[np.int32] | None = None
    transposed: bool = False

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    @property
    def num_elements(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    def materialize(self) -> TensorSource:
        """The same tensor with `data` as [n][k]: itself, or a copy that undoes `transposed`."""
        if not self.transposed:
            return self
        import numpy as np

        _, width = WEIGHT_KINDS[self.kind]
        n, k = self.shape
        stored = np.frombuffer(self.data, dtype=f"V{width}").reshape(k, n)
        turned = np.ascontiguousarray(stored.T)
        return replace(self, data=memoryview(turned.tobytes()), transposed=False)

    def rows(self, start: int, stop: int) -> TensorSource:
        """Rows [start, stop): one part of a joined matrix (q of qkv). No copy unless transposed."""
        if self.transposed:
            return self.materialize().rows(start, stop)
        if not 0 <= start < stop <= self.shape[0]:
            raise ModelFileError(
                f"{self.name} has {self.shape[0]} rows, rows {start} to {stop} were asked for"
            )
        shape = (stop - start, *self.shape[1:])
        if self.row_order is not None:
            return replace(self, shape=shape, row_order=self.row_order[start:stop])
        row_bytes = self.nbytes // self.shape[0]
        return replace(self, shape=shape, data=self.data[start * row_bytes : stop * row_bytes])

    def dequantize(self) -> NDArray[np.float32]:
        """The tensor as float32 in `shape`: the slow reference that kernels are checked against."""
        from weft.io.gguf.blocks import dequantize

        source = self.materialize()
        if source.row_order is None:
            return dequantize(source.kind, source.data).reshape(source.shape)
        values = dequantize(source.kind, source.data)
        stored = values.reshape(-1, *source.shape[1:])
        return stored[source.row_order]
