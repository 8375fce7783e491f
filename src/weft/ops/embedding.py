"""embedding: the rows of a table at the given tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.ops.operation import (
    BackwardCall,
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    matrix,
    record,
    weight,
)
from weft.types import AnyWeight, Array, DType, MatrixType, OperandType, TensorType, WeightType


@dataclass(frozen=True)
class Embedding(Operation):
    """out[r] = table[tokens[r, 0]], table[tokens[r, 1]], …, side by side.

    tokens i32[rows, W], table [V, D], packed or a tensor → out f32[rows, W · D]. Tokens outside the table are
    refused before a run.
    """

    name = "embedding"
    operands = (matrix("tokens", DType.I32), weight("table"))
    row_wise = True

    def shape(self, tokens: MatrixType, table: AnyWeight) -> MatrixType:
        expect(self, not table.interleaved, "a plain table", table, "pack it without interleave")
        return MatrixType(tokens.rows, tokens.columns * table.k)

    def flops(self, sizes: Sizes, tokens: MatrixType, table: AnyWeight) -> float:
        return 0.0

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        tokens, table = types["tokens"], types["table"]
        assert isinstance(tokens, MatrixType) and isinstance(table, WeightType | TensorType)
        return sizes[tokens.rows] * (tokens.row_bytes + tokens.columns * table.nbytes / table.n)

    def reference(self, tokens: Array, table: Array) -> Array:
        return table[tokens].reshape(len(tokens), -1)

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.embedding_grad import embedding_grad

        if (d_table := call.tensor_grad("table")) is not None:
            embedding_grad(call.operands["tokens"], call.d_outputs[0], d_table)
        return {}


def embedding(tokens: Matrix, table: Operand) -> Matrix:
    """Records the rows of `table` [V, D] at `tokens` i32[rows, W]; gives f32[rows, W · D]."""
    (out,) = record(Embedding(), tokens=tokens, table=table)
    return out
