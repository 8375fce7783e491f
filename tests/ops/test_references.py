"""NumPy references against torch's own operations in float64, and costs against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from weft.ops.attention import Attention
from weft.ops.embedding import Embedding
from weft.ops.gelu import Gelu
from weft.ops.kv_write import KvWrite
from weft.ops.layer_norm import LayerNorm
from weft.ops.linear import Linear
from weft.ops.log_probs import LogProbs
from weft.ops.philox import philox, uniform, uniform_f64
from weft.ops.reference_cache import ReferenceCache
from weft.ops.rms_norm import RmsNorm
from weft.ops.silu_gate import SiluGate
from weft.types import CacheType, DType, MatrixType, WeightType

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.fixture
def draw():
    generator = np.random.default_rng(3)
    return lambda *shape: generator.standard_normal(shape)


def close(got, expected):
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-12, atol=1e-12)


def test_norms(draw):
    x, weight, bias = draw(5, 24), draw(24), draw(24)
    close(RmsNorm(1e-5).reference(x, weight), F.rms_norm(torch.tensor(x), (24,), torch.tensor(weight), 1e-5))
    by_head = F.rms_norm(torch.tensor(x).reshape(5, 4, 6), (6,), torch.tensor(weight[:6]), 1e-5)
    close(RmsNorm(1e-5, heads=4).reference(x, weight[:6]), by_head.reshape(5, 24))
    expected = F.layer_norm(torch.tensor(x), (24,), torch.tensor(weight), torch.tensor(bias), 1e-5)
    close(LayerNorm(1e-5).reference(x, weight, bias), expected)


def test_products_and_activations(draw):
    x, weight, bias = draw(5, 24), draw(7, 24), draw(7)
    close(Linear().reference(x, weight, bias), F.linear(*map(torch.tensor, (x, weight, bias))))
    close(Gelu("none").reference(x), F.gelu(torch.tensor(x)))
    close(Gelu("tanh").reference(x), F.gelu(torch.tensor(x), approximate="tanh"))
    close(SiluGate().reference(x), F.silu(torch.tensor(x[:, :12])) * torch.tensor(x[:, 12:]))
    large = SiluGate().reference(np.array([[-1e4, 1e4, 1.0, 2.0]]))
    np.testing.assert_array_equal(large, [[0.0, 2e4]])


def test_log_probs(draw):
    logits, targets = 30 * draw(5, 24), np.array([[0], [23], [5], [5], [7]])
    expected = torch.log_softmax(torch.tensor(logits), -1).gather(1, torch.tensor(targets))
    close(LogProbs().reference(logits, targets), expected)


@pytest.mark.parametrize("window", [0, 1, 5, 100])
def test_attention_over_scattered_blocks(draw, window):
    cache = ReferenceCache(CacheType(2, 2, 6), num_blocks=8)
    table = np.array([[5], [2], [7], [1], [0]])
    lengths, fresh, first_block = (40, 70), (3, 70), (0, 2)
    keys, values, queries = draw(110, 2, 6), draw(110, 2, 6), draw(110, 4, 6)
    slots = [
        table[b + p // 32, 0] * 32 + p % 32
        for n, b in zip(lengths, first_block, strict=True)
        for p in range(n)
    ]
    KvWrite(1, 2, 6).reference(
        keys.reshape(110, -1), values.reshape(110, -1), cache, np.array(slots).reshape(-1, 1)
    )
    rows = np.r_[37:40, 40:110]
    sequences = np.array([(0, 3, 37, 0), (3, 70, 0, 2)])
    op = Attention(1, 4, 2, 6, 0.3, window)
    got = op.reference(queries[rows].reshape(73, -1), cache, sequences, table)
    expected = []
    for start, length, new in ((0, 40, fresh[0]), (40, 70, fresh[1])):
        part = slice(start, start + length)
        q, k, v = (torch.tensor(a[part]).transpose(0, 1) for a in (queries, keys, values))
        distance = torch.arange(length)[:, None] - torch.arange(length)
        mask = (distance >= 0) & ((distance < window) if window else True)
        out = F.scaled_dot_product_attention(
            q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0), attn_mask=mask, scale=0.3
        )
        expected.append(out.transpose(0, 1).reshape(length, -1)[length - new :])
    close(got, torch.cat(expected))


def test_costs_count_work_and_packed_bytes():
    sizes = {"rows": 10, "outputs": 2, "context": 50, "sequences": 3}
    x, weight = MatrixType("rows", 64), WeightType(96, 64, "q4", 3456)
    cost = Linear().cost(sizes, {"x": x, "weight": weight})
    assert cost.flops == 2 * 10 * 96 * 64
    assert (cost.bytes_read, cost.bytes_written) == (3456 + 10 * 64 * 4, 10 * 96 * 4)
    tokens = MatrixType("rows", 1, DType.I32)
    assert Embedding().cost(sizes, {"tokens": tokens, "table": weight}).bytes_read == 10 * (4 + 3456 / 96)
    operands = {
        "q": x,
        "cache": CacheType(1, 2, 16),
        "sequences": MatrixType("sequences", 4, DType.I32),
        "block_table": MatrixType("blocks", 1, DType.I32),
    }
    cost = Attention(0, 4, 2, 16, 0.25).cost(sizes, operands)
    assert cost.flops == 2 * 2 * 10 * 64 * 50
    assert cost.bytes_read == 10 * 64 * 4 + 3 * 50 * (2 * 2 * 16 * 2)
    assert Attention(0, 4, 2, 16, 0.25, window=20).cost(sizes, operands).flops == 2 * 2 * 10 * 64 * 20


def test_philox_gives_the_published_words():
    # Known answers of the Random123 distribution.
    assert philox((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ones = 0xFFFFFFFF
    assert philox((ones,) * 4, (ones,) * 2) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    drawn = [uniform(7, 1, position) for position in range(1000)]
    assert all(0 < value < 1 for value in drawn) and abs(np.mean(drawn) - 0.5) < 0.03
    assert 0 < uniform_f64(7, 1, 0) < 1
