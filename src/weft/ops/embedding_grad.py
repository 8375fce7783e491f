"""embedding_grad: adds to the gradient of an embedding's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import (
    Matrix,
    Operand,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    operand_bytes,
    record,
    tensor,
)
from weft.types import Array, DType, MatrixType, OperandType, TensorType


@dataclass(frozen=True)
class EmbeddingGrad(Operation):
    """d_table[tokens[r, w]] += d_out[r, w · D … (w + 1) · D], for r, then w, ascending.

    tokens i32[rows, W], d_out f32[rows, W · D], d_table tensor [V, D]; no output.
    """

    name = "embedding_grad"
    operands = (matrix("tokens", DType.I32), matrix("d_out"), tensor("d_table"))
    outputs = ()

    def shape(self, tokens: MatrixType, d_out: MatrixType, d_table: TensorType) -> tuple[MatrixType, ...]:
        expect_same_rows(self, (tokens, d_out))
        fits = d_out.columns == tokens.columns * d_table.k
        expect(self, fits, f"{tokens.columns} × {d_table.k} columns", d_out, "pass the embedding's gradient")
        return ()

    def flops(self, sizes: Sizes, tokens: MatrixType, d_out: MatrixType, d_table: TensorType) -> float:
        return sizes[d_out.rows] * d_out.columns

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        return operand_bytes(types["tokens"], sizes) + 2 * operand_bytes(types["d_out"], sizes)

    def bytes_written(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        return operand_bytes(types["d_out"], sizes)

    def reference(self, tokens: Array, d_out: Array, d_table: Array) -> tuple[Array, ...]:
        np.add.at(d_table, tokens.reshape(-1), d_out.reshape(tokens.size, -1))
        return ()


def embedding_grad(tokens: Matrix, d_out: Matrix, d_table: Operand) -> None:
    """Records adding the rows of `d_out` f32[rows, W · D] to `d_table` [V, D] at `tokens` i32[rows, W]."""
    record(EmbeddingGrad(), tokens=tokens, d_out=d_out, d_table=d_table)
