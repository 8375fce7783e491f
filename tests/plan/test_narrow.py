"""Which values are kept as bfloat16: those of bfloat16 products that every reader takes so."""

from __future__ import annotations

import numpy as np
import pytest

from weft import ops
from weft.plan import Recorder, freeze
from weft.plan.backward import backward
from weft.runtime import Tensor
from weft.types import DType


def dtypes(compute="bf16", reads=lambda r, gate_up: None, **options):
    """The element type of each value that a gated product's plan makes, by operation."""
    weight = Tensor(np.zeros((24, 8), np.float32))
    r = Recorder({"w": weight}, compute)
    gate_up = ops.linear(r.input("x", columns=8, dtype=DType.F32), r.weight("w"))
    reads(r, gate_up)
    r.output("out", ops.silu_gate(gate_up))
    plan = freeze(r.finish(), {"rows": 5}, **options)
    return plan, {node.op.name: node.outputs[0].type.dtype for node in plan.nodes}


def test_gate_and_up_are_narrow():
    plan, found = dtypes()
    assert found == {"linear": DType.BF16, "silu_gate": DType.F32}
    assert plan.nodes[0].op.narrow
    wide, _ = dtypes("f32")
    assert plan.bytes(5) == wide.bytes(5) - 2 * 5 * 24 * 2


@pytest.mark.parametrize(
    "reads",
    [
        lambda r, gate_up: r.output("too", gate_up),
        lambda r, gate_up: r.output("too", ops.scale(gate_up, 2.0)),
        lambda r, gate_up: r.output("too", ops.silu_gate(gate_up.split(20, 4)[0])),
    ],
    ids=["a result", "a reader of float32", "a reader of some columns"],
)
def test_others_need_float32(reads):
    assert dtypes(reads=reads)[1]["linear"] is DType.F32


def test_what_products_read_of_gates_is_narrow():
    tensors = {
        name: Tensor(np.zeros(shape, np.float32)) for name, shape in (("up", (24, 8)), ("down", (8, 12)))
    }
    r = Recorder(tensors, "bf16")
    gated = ops.silu_gate(ops.linear(r.input("x", columns=8, dtype=DType.F32), r.weight("up")))
    h = ops.linear(gated, r.weight("down"))
    out = ops.add(h, r.input("x", columns=8, dtype=DType.F32))  # fused into the product before
    r.output("out", out)
    backward(r, {out: ops.scale(r.input("d_out", columns=8, dtype=DType.F32), 1.0)})
    found = {
        (node.op.name, node.outputs[0].type.dtype)
        for node in freeze(r.finish(), {"rows": 5}).nodes
        if node.outputs
    }
    assert {("silu_gate", DType.BF16), ("silu_gate_grad", DType.BF16)} <= found


def test_float32_stays():
    assert dtypes("f32")[1]["linear"] is DType.F32
    assert dtypes(fuse=False)[1]["linear"] is DType.F32
