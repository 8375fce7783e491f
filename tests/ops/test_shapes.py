"""Shape rules: what fits gives the right type, what does not is refused in words."""

from __future__ import annotations

import pytest

from weft.errors import PlanError
from weft.ops.add import Add
from weft.ops.attention import Attention
from weft.ops.embedding import Embedding
from weft.ops.gather_rows import GatherRows
from weft.ops.gelu import Gelu
from weft.ops.kv_write import KvWrite
from weft.ops.layer_norm import LayerNorm
from weft.ops.linear import Linear
from weft.ops.log_probs import LogProbs
from weft.ops.rms_norm import RmsNorm
from weft.ops.rotary import Rotary
from weft.ops.sample import Sample
from weft.ops.silu_gate import SiluGate
from weft.types import CacheType, DType, MatrixType, VectorType, WeightType

X = MatrixType("rows", 24)
IDS = MatrixType("rows", 1, DType.I32)
OUT_IDS = MatrixType("outputs", 1, DType.I32)
TABLE = WeightType(100, 24, "f32", 9600)
PAIR = WeightType(64, 24, "f32", 6144, interleaved=True)
CACHE = CacheType(2, 2, 6)
SEQUENCES = MatrixType("sequences", 4, DType.I32)
BLOCKS = MatrixType("blocks", 1, DType.I32)
ATTENTION = {"q": X, "cache": CACHE, "sequences": SEQUENCES, "block_table": BLOCKS}
SAMPLE = {
    "logits": MatrixType("outputs", 100),
    "real_settings": MatrixType("outputs", 6),
    "int_settings": MatrixType("outputs", 14, DType.I32),
    "history": MatrixType("any", 1, DType.I32),
    "bias_ids": MatrixType("any", 1, DType.I32),
    "bias_values": MatrixType("any", 1),
    "mask_words": MatrixType("any", 1, DType.U32),
}

FITS = [
    (Embedding(), {"tokens": IDS, "table": TABLE}, X),
    (RmsNorm(1e-5), {"x": X, "weight": VectorType(24)}, X),
    (RmsNorm(1e-5, heads=4), {"x": X, "weight": VectorType(6)}, X),
    (LayerNorm(1e-5), {"x": X, "weight": VectorType(24), "bias": VectorType(24)}, X),
    (LayerNorm(1e-5), {"x": X, "weight": VectorType(24)}, X),
    (Linear(), {"x": X, "weight": TABLE}, MatrixType("rows", 100)),
    (Linear(), {"x": X, "weight": TABLE, "residual": MatrixType("rows", 100)}, MatrixType("rows", 100)),
    (Linear(activation="silu_gate"), {"x": X, "weight": PAIR}, MatrixType("rows", 32)),
    (
        Linear("rms_norm", 1e-5),
        {"x": X, "weight": TABLE, "norm_weight": VectorType(24), "bias": VectorType(100)},
        MatrixType("rows", 100),
    ),
    (Add(), {"a": X, "b": X}, X),
    (SiluGate(), {"x": X}, MatrixType("rows", 12)),
    (Gelu("tanh"), {"x": X}, X),
    (Rotary(4, 6, 6), {"x": X, "positions": IDS, "inv_freq": VectorType(3)}, X),
    (Attention(1, 4, 2, 6, 0.4), ATTENTION, X),
    (GatherRows(), {"x": X, "rows": OUT_IDS}, MatrixType("outputs", 24)),
    (LogProbs(), {"logits": X, "targets": IDS}, MatrixType("rows", 1)),
]


@pytest.mark.parametrize(("op", "types", "expected"), FITS, ids=lambda value: getattr(value, "name", None))
def test_what_fits_gives_its_type(op, types, expected):
    assert op.infer(types) == (expected,)


def test_kv_write_gives_nothing_and_sample_four_matrices():
    keys = MatrixType("rows", 12)
    assert KvWrite(0, 2, 6).infer({"k": keys, "v": keys, "cache": CACHE, "slots": IDS}) == ()
    types = Sample().infer(SAMPLE)
    assert [(type_.columns, type_.dtype) for type_ in types] == [
        (1, DType.I32),
        (1, DType.F32),
        (20, DType.I32),
        (20, DType.F32),
    ]


REFUSED = [
    (Embedding(), {"tokens": X, "table": TABLE}, "tokens of i32"),
    (Embedding(), {"tokens": IDS, "table": PAIR}, "plain table"),
    (Embedding(), {"tokens": IDS}, "operand 'table'"),
    (Embedding(), {"tokens": IDS, "table": VectorType(3)}, "WeightType"),
    (Embedding(), {"tokens": IDS, "table": TABLE, "more": X}, "'more'"),
    (RmsNorm(1e-5), {"x": X, "weight": VectorType(23)}, "1 × 23 columns"),
    (RmsNorm(-1.0), {"x": X, "weight": VectorType(24)}, "eps of at least 0"),
    (LayerNorm(1e-5), {"x": X, "weight": VectorType(24), "bias": VectorType(5)}, "a vector of 24"),
    (Linear(), {"x": MatrixType("rows", 23), "weight": TABLE}, "24 columns"),
    (Linear(), {"x": X, "weight": TABLE, "bias": VectorType(99)}, "a vector of 100"),
    (Linear(), {"x": X, "weight": TABLE, "residual": X}, "a residual of 100 columns"),
    (Linear(), {"x": X, "weight": TABLE, "norm_weight": VectorType(24)}, "norm and norm_weight together"),
    (Linear("rms_norm"), {"x": X, "weight": TABLE}, "norm and norm_weight together"),
    (Linear(activation="silu_gate"), {"x": X, "weight": TABLE}, "an interleaved weight"),
    (Linear(activation="relu"), {"x": X, "weight": TABLE}, "activation one of"),
    (Linear(norm="batch"), {"x": X, "weight": TABLE}, "norm one of"),
    (
        Linear("rms_norm"),
        {"x": X, "weight": TABLE, "norm_weight": VectorType(24), "norm_bias": VectorType(24)},
        "norm_bias with layer_norm only",
    ),
    (Add(), {"a": X, "b": MatrixType("outputs", 24)}, "one row dimension"),
    (Add(), {"a": X, "b": MatrixType("rows", 25)}, "24 columns"),
    (SiluGate(), {"x": MatrixType("rows", 25)}, "an even number"),
    (Gelu("sigmoid"), {"x": X}, "approximate one of"),
    (Rotary(4, 7, 6), {"x": X, "positions": IDS, "inv_freq": VectorType(3)}, "4 heads × 7"),
    (Rotary(4, 6, 5), {"x": X, "positions": IDS, "inv_freq": VectorType(3)}, "an even rotary_dim"),
    (Rotary(4, 6, 4), {"x": X, "positions": IDS, "inv_freq": VectorType(3)}, "2 frequencies"),
    (Attention(2, 4, 2, 6, 0.4), ATTENTION, "a layer below 2"),
    (Attention(0, 3, 2, 8, 0.4), ATTENTION, "a cache of 2 heads × 8"),
    (Attention(0, 4, 2, 6, 0.4, window=-1), ATTENTION, "a window of at least 0"),
    (Attention(0, 4, 2, 6, 0.4), {**ATTENTION, "sequences": BLOCKS}, "columns"),
    (Sample(), {**SAMPLE, "int_settings": MatrixType("outputs", 3, DType.I32)}, "columns"),
    (LogProbs(), {"logits": X, "targets": OUT_IDS}, "one row dimension"),
]


@pytest.mark.parametrize(("op", "types", "words"), REFUSED)
def test_what_does_not_fit_is_refused_in_words(op, types, words):
    with pytest.raises(PlanError) as error:
        op.infer(types)
    message = str(error.value)
    assert words in message
    # What was expected, what came, what to do.
    assert message.startswith(f"{op.name}: expected ") and ", got " in message and "; " in message


def test_every_operation_is_described():
    assert {type(op).name for op, *_ in FITS} | {"kv_write", "sample"} >= {
        type(op).name for op, *_ in REFUSED
    }
    for op, *_ in FITS:
        assert type(op).__doc__ and set(op.in_place_of) <= {spec.name for spec in op.operands}
