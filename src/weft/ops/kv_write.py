"""kv_write: keys and values of this step's tokens into the paged cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.ops.operation import (
    Matrix,
    Operand,
    Operation,
    Sizes,
    cache,
    expect,
    expect_same_rows,
    matrix,
    record,
)
from weft.ops.reference_cache import ReferenceCache
from weft.types import Array, CacheType, DType, MatrixType, OperandType


@dataclass(frozen=True)
class KvWrite(Operation):
    """cache.keys[layer, slots[r]] = k[r], cache.values[layer, slots[r]] = v[r].

    k, v f32[rows, kv_heads · head_dim], slots i32[rows, 1]; no output. Slots of a step are distinct.
    """

    layer: int
    kv_heads: int
    head_dim: int

    name = "kv_write"
    operands = (matrix("k"), matrix("v"), cache("cache"), matrix("slots", DType.I32))
    outputs = ()
    row_wise = True

    def shape(
        self, k: MatrixType, v: MatrixType, cache: CacheType, slots: MatrixType
    ) -> tuple[MatrixType, ...]:
        expect_same_rows(self, (k, v, slots))
        check_cache(self, cache, self.layer, self.kv_heads, self.head_dim)
        for operand in (k, v):
            fits = operand.columns == self.kv_heads * self.head_dim
            expect(
                self, fits, f"{self.kv_heads} heads × {self.head_dim} columns", operand, "split k and v first"
            )
        expect(self, slots.columns == 1, "slots of one column", slots, "pass one slot a row")
        return ()

    def flops(self, sizes: Sizes, **types: object) -> float:
        return 0.0

    def bytes_written(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        k, cache = types["k"], types["cache"]
        assert isinstance(k, MatrixType) and isinstance(cache, CacheType)
        return sizes[k.rows] * cache.token_bytes

    def reference(self, k: Array, v: Array, cache: ReferenceCache, slots: Array) -> tuple[Array, ...]:
        shape = (len(k), self.kv_heads, self.head_dim)
        cache.keys[self.layer, slots[:, 0]] = k.reshape(shape)
        cache.values[self.layer, slots[:, 0]] = v.reshape(shape)
        return ()


def check_cache(op: Operation, cache: CacheType, layer: int, kv_heads: int, head_dim: int) -> None:
    """Raises PlanError unless `cache` has this layer, number of heads and head size."""
    expect(
        op, 0 <= layer < cache.layers, f"a layer below {cache.layers}", layer, "make the cache for the model"
    )
    fits = (cache.kv_heads, cache.head_dim) == (kv_heads, head_dim)
    expect(op, fits, f"a cache of {kv_heads} heads × {head_dim}", cache, "make the cache for the model")


def kv_write(
    k: Matrix, v: Matrix, cache: Operand, slots: Matrix, layer: int, kv_heads: int, head_dim: int
) -> None:
    """Records writing `k`, `v` f32[rows, kv_heads · head_dim] to `slots` i32[rows, 1] of a layer."""
    record(KvWrite(layer, kv_heads, head_dim), k=k, v=v, cache=cache, slots=slots)
