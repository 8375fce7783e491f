"""Row-wise operations of training and attention within sequences against NumPy, on 1 to 8 threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.training_plans import close, run_training

from weft import ops
from weft.ops.dropout import dropout
from weft.ops.embedding_grad import embedding_grad
from weft.ops.gelu_grad import gelu_grad
from weft.ops.layer_norm_grad import layer_norm_grad
from weft.ops.operation import record
from weft.ops.rms_norm_grad import rms_norm_grad
from weft.ops.sequence_attention import SequenceAttention
from weft.ops.sequence_attention_grad import SequenceAttentionGrad
from weft.ops.shift_rows import shift_rows
from weft.ops.silu_gate_grad import silu_gate_grad
from weft.ops.squared_error import squared_error
from weft.ops.tanh import tanh
from weft.ops.tanh_grad import tanh_grad
from weft.types import DType

SIZES = [(1, 1), (7, 15), (64, 33), (65, 64), (150, 100)]


@pytest.fixture
def draw():
    generator = np.random.default_rng(9)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


def f32(r, name, columns):
    return r.input(name, columns=columns, dtype=DType.F32)


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_norm_gradients(draw, rows, columns):
    names = ("w", "d_rms", "d_layer", "d_bias")
    weights = {name: draw(columns) for name in names}

    def model(r):
        x, d_out, base = (f32(r, name, columns) for name in ("x", "d_out", "base"))
        w = r.weight("w")
        r.output("rms", rms_norm_grad(x, w, d_out, 1e-1, residual=base, d_weight=r.weight("d_rms")))
        r.output("plain", rms_norm_grad(x, w, d_out, 1e-1))
        sums = {"d_weight": r.weight("d_layer"), "d_bias": r.weight("d_bias")}
        r.output("layer", layer_norm_grad(x, w, d_out, 1e-1, **sums))

    inputs = {name: draw(rows, columns) for name in ("x", "d_out", "base")}
    close(run_training(model, weights, inputs, rows=150), rtol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_activations_losses_and_rows(draw, rows, columns):
    def model(r):
        x, d_out, pair = f32(r, "x", columns), f32(r, "d_out", columns), f32(r, "pair", 2 * columns)
        r.output("silu_gate", silu_gate_grad(pair, d_out))
        r.output("gelu", gelu_grad(x, d_out))
        r.output("gelu by tanh", gelu_grad(x, d_out, "tanh"))
        r.output("tanh_grad", tanh_grad(tanh(x), d_out))
        loss, d_x = squared_error(x, d_out, f32(r, "loss_weights", 1))
        r.output("loss", loss)
        r.output("d_x", d_x)
        r.output("shifted", shift_rows(x, r.input("sequences", "sequences", columns=2)))
        row_ids = r.input("row_ids", columns=1, dtype=DType.I64)
        r.output("dropped", dropout(x, row_ids, r.input("seed", "seeds", columns=2, dtype=DType.U32), 0.3, 5))

    inputs = {"x": draw(rows, columns), "d_out": draw(rows, columns), "pair": draw(rows, 2 * columns)}
    inputs |= {"loss_weights": draw(rows, 1), "seed": np.array([[1, 2**31]], np.uint32)}
    inputs["row_ids"] = np.arange(rows, dtype=np.int64)[:, None] * 2**33
    first = [0, 1, rows // 2 + 1][: 1 if rows == 1 else 3]
    counts = np.diff([*first, rows])
    inputs["sequences"] = np.stack([first, counts], axis=1).astype(np.int32)
    close(run_training(model, {}, inputs, rows=150), rtol=3e-6)


def test_embedding_gradient(draw):
    def model(r):
        d_out = f32(r, "d_out", 3 * 20)
        embedding_grad(r.input("tokens", columns=3), d_out, r.weight("d_table"))
        r.output("unused", ops.add(d_out, d_out))

    tokens = np.random.default_rng(1).integers(0, 9, (130, 3)).astype(np.int32)
    inputs = {"tokens": tokens, "d_out": draw(130, 60)}
    close(run_training(model, {"d_table": draw(11, 20)}, inputs, rows=150), rtol=3e-6)


ATTENTION = [(1, 1, 8, 0), (2, 3, 20, 0), (3, 3, 64, 0), (1, 2, 128, 0), (2, 1, 32, 40)]


def attention_inputs(draw, shape, lengths):
    kv_heads, group, head_dim, _ = shape
    rows = sum(lengths)
    inputs = {name: draw(rows, kv_heads * group * head_dim) for name in ("q", "d_out")}
    inputs |= {name: draw(rows, kv_heads * head_dim) for name in ("k", "v")}
    first = np.cumsum([0, *lengths[:-1]])
    return inputs | {"sequences": np.stack([first, lengths], axis=1).astype(np.int32)}


def run_attention(draw, shape, lengths, compute="f32"):
    kv_heads, group, head_dim, window = shape
    attrs = (kv_heads * group, kv_heads, head_dim, head_dim**-0.5, window, compute)

    def model(r):
        given = {name: f32(r, name, kv_heads * group * head_dim) for name in ("q", "d_out")}
        given |= {name: f32(r, name, kv_heads * head_dim) for name in ("k", "v")}
        given["sequences"] = r.input("sequences", "sequences", columns=2)
        d_out = given.pop("d_out")
        out, log_sum_exp = record(SequenceAttention(*attrs), **given)
        r.output("out", out)
        r.output("log_sum_exp", log_sum_exp)
        kept = {"out": out, "log_sum_exp": log_sum_exp, "d_out": d_out}
        for name, value in zip("qkv", record(SequenceAttentionGrad(*attrs), **given, **kept), strict=True):
            r.output("d_" + name, value)

    inputs = attention_inputs(draw, shape, lengths)
    return inputs, run_training(model, {}, inputs, rows=sum(lengths))


@pytest.mark.parametrize("shape", ATTENTION)
def test_sequence_attention(draw, shape):
    _, results = run_attention(draw, shape, [1, 64, 130, 33])
    close(results, rtol=2e-5)


@pytest.mark.parametrize("shape", ATTENTION)
def test_sequence_attention_in_bf16(draw, shape):
    _, results = run_attention(draw, shape, [1, 64, 130, 33], "bf16")
    close(results, rtol=2e-2)


def test_sequence_attention_against_torch(draw):
    inputs, results = run_attention(draw, (2, 3, 64, 0), [150])

    def heads(name, count):
        array = torch.from_numpy(inputs[name]).double().reshape(1, 150, count, 64).transpose(1, 2)
        return array.detach().requires_grad_()

    q, k, v = heads("q", 6), heads("k", 2), heads("v", 2)
    repeated = (part.repeat_interleave(3, dim=1) for part in (k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, *repeated, is_causal=True)
    out.backward(heads("d_out", 6).detach())
    for name, expected in (("out", out), ("d_q", q.grad), ("d_k", k.grad), ("d_v", v.grad)):
        rows = expected.detach().transpose(1, 2).reshape(150, -1).numpy()
        np.testing.assert_allclose(results[name][0], rows, rtol=1e-5, atol=2e-5, err_msg=name)
