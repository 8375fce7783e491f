"""sequence_attention: causal softmax attention within each sequence of the rows, without a cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from weft.ops.operation import (
    BackwardCall,
    Matrix,
    OperandSpec,
    Operation,
    Sizes,
    expect,
    expect_same_rows,
    matrix,
    record,
)
from weft.types import Array, DType, MatrixType


@dataclass(frozen=True)
class SequenceAttention(Operation):
    """out[r, h] = Σ_j p_j · v[j, h′] with p = softmax_j(scale · q[r, h] · k[j, h′]), over the rows j ≤ r of
    r's own sequence, of which a `window` above 0 leaves the last; log_sum_exp[r, h] = log Σ_j exp(scale · …).

    q f32[rows, heads · head_dim], k and v f32[rows, kv_heads · head_dim], sequences i32[sequences, 2] →
    out like q, log_sum_exp f32[rows, heads]. h′ = h // (heads // kv_heads). Each row of `sequences` says
    (first_row, num_rows); they follow one another and cover all rows. With compute "bf16" the factors of all
    products are rounded to bfloat16 where the processor multiplies such; sums are float32. Vaswani et al.,
    2017; Dao et al., 2022.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int = 0
    compute: str = "f32"

    name = "sequence_attention"
    operands: ClassVar[tuple[OperandSpec, ...]] = (
        matrix("q"),
        matrix("k"),
        matrix("v"),
        matrix("sequences", DType.I32),
    )
    outputs: ClassVar[tuple[str, ...]] = ("out", "log_sum_exp")

    def shape(
        self, q: MatrixType, k: MatrixType, v: MatrixType, sequences: MatrixType
    ) -> tuple[MatrixType, ...]:
        check_heads(self, q, k, v, sequences)
        return q, MatrixType(q.rows, self.heads)

    def flops(self, sizes: Sizes, q: MatrixType, **others: object) -> float:
        return 4.0 * sizes[q.rows] * q.columns * visible_tokens(self, sizes)

    def reference(self, q: Array, k: Array, v: Array, sequences: Array) -> tuple[Array, ...]:
        out, log_sum = np.zeros_like(q), np.zeros((len(q), self.heads), q.dtype)
        for rows in sequence_rows(sequences):
            queries, keys, values = split_heads(self, q[rows], k[rows], v[rows])
            scores, log_sum_exp = attention_scores(self, queries, keys)
            out[rows] = join_heads(np.exp(scores - log_sum_exp) @ values)
            log_sum[rows] = log_sum_exp[..., 0].reshape(self.heads, -1).T
        return out, log_sum

    def backward(self, call: BackwardCall) -> Mapping[str, Matrix]:
        from weft.ops.sequence_attention_grad import SequenceAttentionGrad

        sizes = self.heads, self.kv_heads, self.head_dim
        op = SequenceAttentionGrad(*sizes, self.scale, self.window, self.compute)
        out, log_sum_exp = call.outputs
        grads = record(op, **call.operands, out=out, log_sum_exp=log_sum_exp, d_out=call.d_outputs[0])
        return dict(zip("qkv", grads, strict=True))


def check_heads(
    op: SequenceAttention, q: MatrixType, k: MatrixType, v: MatrixType, sequences: MatrixType
) -> None:
    """Raises PlanError unless the matrices have the heads that the attributes say."""
    expect_same_rows(op, (q, k, v))
    shared = op.kv_heads > 0 and op.heads % op.kv_heads == 0
    expect(op, shared, f"heads in groups of {op.kv_heads}", op.heads, "correct the model's configuration")
    for operand, heads in ((q, op.heads), (k, op.kv_heads), (v, op.kv_heads)):
        fits = operand.columns == heads * op.head_dim
        expect(op, fits, f"{heads} heads × {op.head_dim} columns", operand, "split q, k and v first")
    expect(op, sequences.columns == 2, "columns (first_row, num_rows)", sequences, "pass both")
    expect(op, op.window >= 0, "a window of at least 0", op.window, "pass 0 for none")


def visible_tokens(op: SequenceAttention, sizes: Sizes) -> float:
    """Tokens that a row sees on average: half of its sequence, or the window."""
    context = sizes["context"]
    return min(context, op.window) if op.window else context


def sequence_rows(sequences: Array) -> Iterator[slice]:
    """The rows of each sequence."""
    return (slice(first, first + count) for first, count, *_ in sequences.tolist())


def split_heads(op: SequenceAttention, q: Array, k: Array, v: Array) -> tuple[Array, ...]:
    """q as [kv_heads, group, rows, head_dim]; k and v as [kv_heads, 1, rows, head_dim]."""
    group = op.heads // op.kv_heads
    queries = q.reshape(len(q), op.kv_heads, group, op.head_dim).transpose(1, 2, 0, 3)
    keys, values = (p.reshape(len(p), op.kv_heads, op.head_dim).transpose(1, 0, 2)[:, None] for p in (k, v))
    return queries, keys, values


def join_heads(parts: Array) -> Array:
    """[kv_heads, group, rows, head_dim] as rows of all heads side by side."""
    return np.asarray(parts.transpose(2, 0, 1, 3).reshape(parts.shape[2], -1))


def attention_scores(op: SequenceAttention, queries: Array, keys: Array) -> tuple[Array, Array]:
    """Scaled scores, −∞ where a row must not see, and the log of their summed exponentials."""
    scores = op.scale * (queries @ keys.swapaxes(-1, -2))
    distance = np.arange(scores.shape[-2])[:, None] - np.arange(scores.shape[-1])
    visible = (distance >= 0) & ((distance < op.window) if op.window else True)
    scores = np.where(visible, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    return scores, top + np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))


def sequence_attention(
    q: Matrix,
    k: Matrix,
    v: Matrix,
    sequences: Matrix,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float | None = None,
    window: int = 0,
) -> Matrix:
    """Records attention of `q` to `k` and `v` within each sequence; gives f32[rows, heads · head_dim].

    `scale` is 1 / sqrt(head_dim) unless given; a `window` above 0 limits how many tokens a row sees.
    """
    scale = head_dim**-0.5 if scale is None else scale
    op = SequenceAttention(heads, kv_heads, head_dim, scale, window, q.recorder.compute)
    out, _ = record(op, q=q, k=k, v=v, sequences=sequences)
    return out
