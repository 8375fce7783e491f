"""sequence_attention_grad: the gradients of sequence_attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Sizes, expect, expect_same_rows, matrix
from weft.ops.sequence_attention import (
    SequenceAttention,
    attention_scores,
    check_heads,
    join_heads,
    sequence_rows,
    split_heads,
    visible_tokens,
)
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class SequenceAttentionGrad(SequenceAttention):
    """With p as in `sequence_attention`, made again from log_sum_exp, and D = d_out · out, per row and head:

        d_v[j] = Σ_r p_rj · d_out[r]              d_s_rj = p_rj · (d_out[r] · v[j] − D[r])
        d_q[r] = scale · Σ_j d_s_rj · k[j]        d_k[j] = scale · Σ_r d_s_rj · q[r]

    q, out, d_out f32[rows, heads · head_dim], k, v f32[rows, kv_heads · head_dim], log_sum_exp
    f32[rows, heads], sequences i32[sequences, 2] → d_q, d_k, d_v, like q, k, v. Dao et al., 2022.
    """

    name = "sequence_attention_grad"
    operands = (
        matrix("q"),
        matrix("k"),
        matrix("v"),
        matrix("out"),
        matrix("log_sum_exp"),
        matrix("d_out"),
        matrix("sequences", DType.I32),
    )
    outputs = ("d_q", "d_k", "d_v")

    def shape(  # type: ignore[override]
        self,
        q: MatrixType,
        k: MatrixType,
        v: MatrixType,
        out: MatrixType,
        log_sum_exp: MatrixType,
        d_out: MatrixType,
        sequences: MatrixType,
    ) -> tuple[MatrixType, ...]:
        check_heads(self, q, k, v, sequences)
        expect_same_rows(self, (q, out, log_sum_exp, d_out))
        for operand in (out, d_out):
            expect(
                self, operand.columns == q.columns, f"{q.columns} columns, like q", operand, "pass out's own"
            )
        fits = log_sum_exp.columns == self.heads
        expect(self, fits, f"{self.heads} columns", log_sum_exp, "pass the second output of the attention")
        return q, k, v

    def flops(self, sizes: Sizes, q: MatrixType, **others: object) -> float:
        return 10.0 * sizes[q.rows] * q.columns * visible_tokens(self, sizes)

    def reference(  # type: ignore[override]
        self, q: Array, k: Array, v: Array, out: Array, log_sum_exp: Array, d_out: Array, sequences: Array
    ) -> tuple[Array, ...]:
        grads = tuple(np.zeros_like(part) for part in (q, k, v))
        for rows in sequence_rows(sequences):
            parts = self._sequence(q[rows], k[rows], v[rows], out[rows], log_sum_exp[rows], d_out[rows])
            for grad, part in zip(grads, parts, strict=True):
                grad[rows] = part
        return grads

    def _sequence(
        self, q: Array, k: Array, v: Array, out: Array, log_sum_exp: Array, d_out: Array
    ) -> tuple[Array, ...]:
        queries, keys, values = split_heads(self, q, k, v)
        d_mixed, mixed = split_heads(self, d_out, k, v)[0], split_heads(self, out, k, v)[0]
        scores, _ = attention_scores(self, queries, keys)
        weights = np.exp(scores - log_sum_exp.T.reshape(*queries.shape[:3], 1))
        d_scores = d_mixed @ values.swapaxes(-1, -2) - (d_mixed * mixed).sum(axis=-1, keepdims=True)
        d_scores = self.scale * weights * d_scores
        d_values = (weights.swapaxes(-1, -2) @ d_mixed).sum(axis=1, keepdims=True)
        d_keys = (d_scores.swapaxes(-1, -2) @ queries).sum(axis=1, keepdims=True)
        return join_heads(d_scores @ keys), join_heads(d_keys), join_heads(d_values)
