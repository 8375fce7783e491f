"""Each native operation against its NumPy reference: odd sizes, 1 to 8 threads."""

from __future__ import annotations

import numpy as np
import pytest
from support.native_plans import build, pack, run_everywhere
from support.steps import PagedTexts

from weft import ops
from weft.ops.sample import INT_SETTINGS, MAX_TOP_LOG_PROBS, REAL_SETTINGS
from weft.runtime import Pool
from weft.types import CacheType, DType

ROWS = (1, 2, 7, 16, 33)
COLUMNS = (1, 2, 15, 16, 31, 33, 64, 100)


@pytest.fixture
def draw():
    generator = np.random.default_rng(9)
    return lambda *shape: generator.standard_normal(shape).astype(np.float32)


def activations(r, columns, name="x"):
    return r.input(name, columns=columns, dtype=DType.F32)


def check(weights, model, inputs, rtol=2e-6):
    plan = build(weights, model, rows=64)
    for got, expected in run_everywhere(plan, weights, inputs):
        for name, values in expected.items():
            assert got[name].shape == values.shape
            # Of the sizes that are added up: a sum may cancel to less.
            atol = rtol * np.abs(values).max(initial=1)
            np.testing.assert_allclose(got[name], values, rtol=rtol, atol=atol)


def elementwise(draw, columns, operation, weights=None):
    """`operation` on inputs of all ROWS, as an output itself and after another operation (in place)."""

    def model(r):
        x = activations(r, columns)
        r.output("direct", operation(r, x))
        r.output("in place", operation(r, ops.add(x, x)))

    check(weights or {}, model, [{"x": draw(rows, columns)} for rows in ROWS], rtol=1e-5)


@pytest.mark.parametrize("columns", COLUMNS)
def test_row_operations(draw, columns):
    weights = {"weight": draw(columns), "bias": draw(columns)}
    elementwise(draw, columns, lambda r, x: ops.rms_norm(x, r.weight("weight"), 1e-5), weights)
    elementwise(
        draw, columns, lambda r, x: ops.layer_norm(x, r.weight("weight"), r.weight("bias"), 1e-2), weights
    )
    elementwise(draw, columns, lambda r, x: ops.layer_norm(x, r.weight("weight"), None, 1e-2), weights)
    elementwise(draw, columns, lambda r, x: ops.gelu(x, "tanh"))
    elementwise(draw, columns, lambda r, x: ops.gelu(x, "none"))
    elementwise(draw, columns, lambda r, x: ops.add(x, x))
    elementwise(draw, 2 * columns, lambda r, x: ops.silu_gate(x))


def test_norm_of_each_head(draw):
    weights = {"weight": draw(20)}
    elementwise(draw, 60, lambda r, x: ops.rms_norm(x, r.weight("weight"), 1e-6, heads=3), weights)


@pytest.mark.parametrize(
    ("heads", "head_dim", "rotary_dim"), [(1, 2, 2), (3, 20, 20), (2, 64, 64), (5, 24, 10)]
)
def test_rotary(draw, heads, head_dim, rotary_dim):
    frequencies = 10000.0 ** -np.linspace(0, 1, rotary_dim // 2)

    def model(r):
        x = activations(r, heads * head_dim)
        inv_freq = r.constant("inv_freq", frequencies)
        dims = (heads, head_dim, rotary_dim)
        r.output(
            "out", ops.rotary(ops.add(x, x), r.input("positions"), inv_freq, *dims, attention_scale=1.25)
        )

    positions = [np.arange(rows, dtype=np.int32)[:, None] * 977 for rows in ROWS]
    inputs = [{"x": draw(len(p), heads * head_dim), "positions": p} for p in positions]
    check({}, model, inputs, rtol=5e-6)


@pytest.mark.parametrize(("kv_heads", "group", "head_dim"), [(1, 1, 8), (2, 3, 20), (3, 3, 64), (1, 4, 128)])
@pytest.mark.parametrize("window", [0, 40])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16])
def test_attention_over_a_paged_cache(draw, kv_heads, group, head_dim, window, dtype):
    heads = kv_heads * group
    cache_type = CacheType(2, kv_heads, head_dim, dtype)

    def model(r):
        cache = r.cache("cache", cache_type)
        q, k, v = (
            activations(r, count * head_dim, name)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        sequences = r.input("sequences", "sequences", columns=4)
        table = r.input("block_table", "blocks")
        ops.kv_write(k, v, cache, r.input("slots"), 1, kv_heads, head_dim)
        r.output(
            "out", ops.attention(q, cache, sequences, table, 1, heads, kv_heads, head_dim, window=window)
        )

    texts = PagedTexts(16, seed=4)
    steps = []
    for chunks in ([(0, 3)], [(1, 33), (0, 30)], [(0, 1), (2, 1), (1, 62)], [(1, 1), (0, 1), (2, 1)]):
        paged = texts.step([(text, [0] * count) for text, count in chunks])
        rows = len(paged["tokens"])
        widths = {"q": heads, "k": kv_heads, "v": kv_heads}
        steps.append(
            {name: draw(rows, count * head_dim) for name, count in widths.items()}
            | {name: paged[name] for name in ("slots", "sequences", "block_table")}
        )
    check({}, model, steps, rtol={DType.F32: 5e-6, DType.F16: 2e-3, DType.BF16: 2e-2}[dtype])


@pytest.mark.parametrize(("n", "k"), [(1, 1), (31, 33), (96, 64), (130, 100)])
@pytest.mark.parametrize("target", ["f32", "bf16", "q8", "int8", "q4"])
def test_linear_in_all_its_forms(draw, n, k, target):
    # 8- and 4-bit products round the activations to 8 bits; bf16 weights may round them to bf16.
    rtol = {"f32": 1e-5, "bf16": 1e-2, "q8": 3e-2, "int8": 3e-2, "q4": 3e-2}[target]
    pool = Pool(2)
    weights = {
        "weight": pack(draw(n, k), pool, target=target),
        "pair": pack(draw(2 * n, k), pool, interleave=True, target=target),
        "bias": draw(n),
        "norm": draw(k),
        "norm_bias": draw(k),
    }

    def model(r):
        x, residual = activations(r, k), activations(r, n, "residual")
        weight, bias = r.weight("weight"), r.weight("bias")
        r.output("plain", ops.linear(x, weight))
        r.output("bias", ops.linear(x, weight, bias))
        r.output("residual", ops.add(ops.linear(x, weight), residual))
        r.output("rms_norm", ops.linear(ops.rms_norm(x, r.weight("norm"), 1e-5), weight))
        normed = ops.layer_norm(x, r.weight("norm"), r.weight("norm_bias"), 1e-5)
        r.output("layer_norm", ops.add(ops.gelu(ops.linear(normed, weight, bias), "tanh"), residual))
        r.output("gelu", ops.gelu(ops.linear(x, weight), "none"))
        gated = ops.silu_gate(ops.linear(ops.rms_norm(x, r.weight("norm"), 1e-5), r.weight("pair")))
        r.output("silu_gate", ops.add(residual, gated))

    check(weights, model, [{"x": draw(rows, k), "residual": draw(rows, n)} for rows in ROWS], rtol)


@pytest.mark.parametrize("target", ["f32", "bf16", "q8", "int8", "q4"])
def test_embedding_and_gathering(draw, target):
    weights = {"table": pack(draw(50, 40), Pool(1), target=target)}

    def model(r):
        x = ops.embedding(r.input("tokens"), r.weight("table"))
        r.output("rows", x)
        r.output("picked", ops.gather_rows(ops.gelu(x), r.input("output_rows", "outputs")))

    generator = np.random.default_rng(1)
    inputs = [
        {
            "tokens": generator.integers(0, 50, (rows, 1)).astype(np.int32),
            "output_rows": generator.integers(0, rows, (5, 1)).astype(np.int32),
        }
        for rows in ROWS
    ]
    check(weights, model, inputs)


@pytest.mark.parametrize("vocabulary", [1, 2, 33, 1000, 49152])
def test_log_probs(draw, vocabulary):
    def model(r):
        r.output("log_probs", ops.log_probs(activations(r, vocabulary), r.input("targets")))

    generator = np.random.default_rng(1)
    targets = [generator.integers(0, vocabulary, (rows, 1)).astype(np.int32) for rows in ROWS]
    check({}, model, [{"x": 10 * draw(len(t), vocabulary), "targets": t} for t in targets], rtol=3e-6)


def sample_plan(vocabulary):
    def model(r):
        settings = (
            r.input("real_settings", columns=len(REAL_SETTINGS), dtype=DType.F32),
            r.input("int_settings", columns=len(INT_SETTINGS)),
            r.input("history", "history"),
            r.input("bias_ids", "biases"),
            r.input("bias_values", "biases", dtype=DType.F32),
            r.input("mask_words", "mask", dtype=DType.U32),
        )
        names = ("tokens", "log_probs", "top_ids", "top_log_probs")
        for name, value in zip(names, ops.sample(activations(r, vocabulary), *settings), strict=True):
            r.output(name, value)

    return build({}, model, rows=64)


def sample_inputs(generator, logits, rows):
    """Random settings of each row; about half of the rows use each of them."""
    vocabulary = logits.shape[1]
    half = lambda value, off: value if generator.random() < 0.5 else off  # noqa: E731
    reals, ints, history, bias_ids, bias_values, masks = [], [], [], [], [], []
    for position in range(rows):
        begin, prompt, generated = len(history), *generator.integers(0, 9, 2)
        history += generator.integers(0, vocabulary, prompt + generated).tolist()
        first_bias, biased = len(bias_ids), half(min(3, vocabulary), 0)
        bias_ids += generator.choice(vocabulary, biased, replace=False).tolist()
        bias_values += generator.normal(0, 3, biased).tolist()
        first_mask = len(masks)
        masks += half(list(generator.integers(1, 2**32, -(-vocabulary // 32)) | 1), [])
        reals.append(
            [
                half(generator.uniform(0.2, 2), 0.0),
                half(generator.uniform(0.1, 1), 1.0),
                half(generator.uniform(0, 0.3), 0.0),
                half(generator.uniform(0.7, 1.5), 1.0),
                half(generator.normal(), 0.0),
                half(generator.normal(), 0.0),
            ]
        )
        filters = [half(int(generator.integers(1, 50)), 0), half(1, 0), half(min(7, vocabulary), 0)]
        seeds = generator.integers(-(2**31), 2**31, 3).tolist()
        parts = [begin, begin + prompt, len(history), first_bias, len(bias_ids), first_mask, len(masks)]
        ints.append([*filters, *seeds, position, *parts])
    column = lambda values, dtype: np.array(values, dtype).reshape(-1, 1)  # noqa: E731
    return {
        "x": logits,
        "real_settings": np.array(reals, np.float32),
        "int_settings": np.array(ints, np.int32),
        "history": column(history, np.int32),
        "bias_ids": column(bias_ids, np.int32),
        "bias_values": column(bias_values, np.float32),
        "mask_words": column(masks, np.uint32),
    }


@pytest.mark.parametrize("vocabulary", [1, 2, 33, 1000, 5003])
def test_sample_in_all_its_settings(draw, vocabulary):
    generator = np.random.default_rng(vocabulary)
    inputs = [sample_inputs(generator, 4 * draw(rows, vocabulary), rows) for rows in (1, 7, 64, 64)]
    different = 0
    for got, expected in run_everywhere(sample_plan(vocabulary), {}, inputs):
        different += int((got["tokens"] != expected["tokens"]).sum())
        same = (got["tokens"] == expected["tokens"])[:, 0]
        np.testing.assert_allclose(got["log_probs"][same], expected["log_probs"][same], atol=2e-5)
        np.testing.assert_array_equal(got["top_ids"], expected["top_ids"])
        np.testing.assert_allclose(got["top_log_probs"], expected["top_log_probs"], atol=2e-5)
        assert got["top_ids"].shape[1] == MAX_TOP_LOG_PROBS
    # A draw beside a border of the distribution may round to the other side.
    assert different <= 1
