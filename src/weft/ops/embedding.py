"""embedding: the rows of a table at the given tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.ops.operation import Matrix, Operand, Operation, Sizes, expect, matrix, record, weight
from weft.types import Array, DType, MatrixType, OperandType, WeightType


@dataclass(frozen=True)
class Embedding(Operation):
    """out[r] = table[tokens[r]].

    tokens i32[rows, 1], table [V, D] → out f32[rows, D]. Tokens outside the table are refused before a run.
    """

    name = "embedding"
    operands = (matrix("tokens", DType.I32), weight("table"))
    row_wise = True

    def shape(self, tokens: MatrixType, table: WeightType) -> MatrixType:
        expect(self, tokens.columns == 1, "tokens of one column", tokens, "pass one token a row")
        expect(self, not table.interleaved, "a plain table", table, "pack it without interleave")
        return MatrixType(tokens.rows, table.k)

    def flops(self, sizes: Sizes, tokens: MatrixType, table: WeightType) -> float:
        return 0.0

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        tokens, table = types["tokens"], types["table"]
        assert isinstance(tokens, MatrixType) and isinstance(table, WeightType)
        return sizes[tokens.rows] * (tokens.row_bytes + table.nbytes / table.n)

    def reference(self, tokens: Array, table: Array) -> Array:
        return table[tokens[:, 0]]


def embedding(tokens: Matrix, table: Operand) -> Matrix:
    """Records the rows of `table` [V, D] at `tokens` i32[rows, 1]; gives f32[rows, D]."""
    (out,) = record(Embedding(), tokens=tokens, table=table)
    return out
