"""Narrowing: what a product in bfloat16 gives is kept as bfloat16 where all its readers take it so.

    linear → silu_gate, silu_gate_grad     gate and up: half of what a step of training keeps of a layer
    silu_gate, silu_gate_grad → products   which round it in any case, and read it two to three times

A product's factors are rounded alike, so the first adds an error of the size that is there already, and the
second none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from weft.ops.adapted_linear import AdaptedLinear
from weft.ops.linear import Linear
from weft.ops.silu_gate import SiluGate
from weft.ops.silu_gate_grad import SiluGateGrad
from weft.plan.node import Node
from weft.plan.record import Recording
from weft.plan.value import PlanOperand, Value
from weft.types import DType, MatrixType, TensorType


def narrow(recording: Recording) -> Recording:
    """The recording with narrow values in place of those that may be."""
    kept = {value.base for value in recording.outputs.values()} | _read_whole(recording.nodes)
    replaced: dict[Value, Value] = {}
    nodes = []
    for plain in recording.nodes:
        node = _with_operands(plain, replaced)
        if _may_give_narrow(node) and (out := node.outputs[0]) not in kept:
            node = _narrowed(node)
            replaced[out] = node.outputs[0]
        nodes.append(node)
    return replace(recording, nodes=tuple(nodes))


def _read_whole(nodes: Sequence[Node]) -> set[Value]:
    """Values that some reader needs in float32, or whose columns are read apart."""
    found = set()
    for node in nodes:
        specs = {spec.name: spec for spec in node.op.operands}
        for name, operand in node.operands.items():
            if not isinstance(operand, Value):
                continue
            if operand.is_view or not specs[name].may_be_narrow or not _rounds(node):
                found.add(operand.base)
    return found


def _rounds(node: Node) -> bool:
    """Whether it takes what is rounded to bfloat16 as it would take the same in float32."""
    op = node.op
    if isinstance(op, Linear) and not isinstance(node.operands["weight"].type, TensorType):
        return False
    return getattr(op, "compute", "bf16") == "bf16" and "d_bias" not in node.operands


def _may_give_narrow(node: Node) -> bool:
    op = node.op
    if isinstance(op, SiluGate | SiluGateGrad):
        x = node.operands["x"].type
        return isinstance(x, MatrixType) and x.dtype is DType.BF16
    if not isinstance(op, Linear | AdaptedLinear) or op.compute != "bf16" or node.plain_nodes:
        return False
    return isinstance(op, AdaptedLinear) or isinstance(node.operands["weight"].type, TensorType)


def _narrowed(node: Node) -> Node:
    assert isinstance(node.op, Linear | AdaptedLinear | SiluGate | SiluGateGrad)
    out, *others = node.outputs
    type_ = MatrixType(out.type.rows, out.type.columns, DType.BF16)
    return replace(
        node, op=replace(node.op, narrow=True), outputs=(Value(out.recorder, type_, out.name), *others)
    )


def _with_operands(node: Node, replaced: Mapping[Value, Value]) -> Node:
    if not any(value in replaced for value in node.reads()):
        return node
    operands: dict[str, PlanOperand] = {
        name: replaced.get(operand, operand) if isinstance(operand, Value) else operand
        for name, operand in node.operands.items()
    }
    plain_nodes = tuple(_with_operands(plain, replaced) for plain in node.plain_nodes)
    return replace(node, operands=operands, plain_nodes=plain_nodes)
