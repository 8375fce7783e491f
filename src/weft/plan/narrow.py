"""Narrowing: what a product in bfloat16 gives is kept as bfloat16 where all its readers take it so.

    linear → silu_gate, silu_gate_grad     gate and up: half of what a step of training keeps of a layer

The product's factors are rounded alike, so this adds an error of the size that is there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from weft.ops.adapted_linear import AdaptedLinear
from weft.ops.linear import Linear
from weft.plan.node import Node
from weft.plan.record import Recording
from weft.plan.value import PlanOperand, Value
from weft.types import DType, MatrixType, TensorType


def narrow(recording: Recording) -> Recording:
    """The recording with narrow values in place of those that may be."""
    kept = {value.base for value in recording.outputs.values()} | _read_whole(recording.nodes)
    replaced: dict[Value, Value] = {}
    nodes = []
    for node in recording.nodes:
        if _may_give_narrow(node) and (out := node.outputs[0]) not in kept:
            node = _narrowed(node)
            replaced[out] = node.outputs[0]
        nodes.append(_with_operands(node, replaced))
    return replace(recording, nodes=tuple(nodes))


def _read_whole(nodes: Sequence[Node]) -> set[Value]:
    """Values that some reader needs in float32, or whose columns are read apart."""
    found = set()
    for node in nodes:
        specs = {spec.name: spec for spec in node.op.operands}
        for name, operand in node.operands.items():
            if not isinstance(operand, Value):
                continue
            if operand.is_view or node.plain_nodes or not specs[name].may_be_narrow:
                found.add(operand.base)
    return found


def _may_give_narrow(node: Node) -> bool:
    op = node.op
    if not isinstance(op, Linear | AdaptedLinear) or op.compute != "bf16" or node.plain_nodes:
        return False
    return isinstance(op, AdaptedLinear) or isinstance(node.operands["weight"].type, TensorType)


def _narrowed(node: Node) -> Node:
    assert isinstance(node.op, Linear | AdaptedLinear)
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
    return replace(node, operands=operands)
