"""Fusing: passes over activations are moved into the linear layers before and after them.

    rms_norm or layer_norm → linear        the norm becomes the linear's prologue
    linear → silu_gate                     with an interleaved weight: its epilogue
    linear → gelu                          its epilogue
    linear → add                           the other summand becomes its residual
    gated linear → linear                  between them rows lie as the second one reads them

The result equals the plain recording, whose nodes each fused node remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from weft.ops.adapted_linear import AdaptedLinear
from weft.ops.add import Add
from weft.ops.gelu import Gelu
from weft.ops.layer_norm import LayerNorm
from weft.ops.linear import GATED_ACTIVATIONS, PACKED_COLUMNS, Linear
from weft.ops.operation import Operation
from weft.ops.rms_norm import RmsNorm
from weft.ops.silu_gate import SiluGate
from weft.plan.node import Node
from weft.plan.record import Recording
from weft.plan.value import PlanOperand, Value
from weft.types import WeightType


def fuse(recording: Recording) -> Recording:
    """The recording with fused linear layers in place of what they stand for."""
    nodes = _fuse_norms(recording.nodes, recording.outputs)
    for into_producer in (_with_activation, _with_residual):
        nodes = _fuse_epilogues(nodes, recording.outputs, into_producer)
    nodes = _pack_between(nodes, recording.outputs)
    return replace(recording, nodes=tuple(nodes))


class _Uses:
    """Who makes and who reads each value; a view's reader reads its base."""

    def __init__(self, nodes: Sequence[Node], outputs: Mapping[str, Value]) -> None:
        self.producers = {value: node for node in nodes for value in node.outputs}
        self._readers: dict[Value, list[Node]] = {}
        for node in nodes:
            for value in node.reads():
                self._readers.setdefault(value.base, []).append(node)
        self._kept = {value.base for value in outputs.values()}

    def readers(self, value: Value) -> list[Node]:
        """Nodes that read `value`, one entry for each operand that does."""
        return self._readers.get(value, [])

    def is_kept(self, value: Value) -> bool:
        """Whether `value` is a result of the plan, so that it must exist."""
        return value in self._kept


def _fuse_norms(nodes: Sequence[Node], outputs: Mapping[str, Value]) -> list[Node]:
    uses = _Uses(nodes, outputs)
    prologues = {node.outputs[0]: node for node in nodes if _is_prologue(node, uses)}
    fused = []
    for node in nodes:
        norm = prologues.get(x) if isinstance(x := node.operands.get("x"), Value) else None
        if isinstance(node.op, Linear) and norm is not None:
            fused.append(_with_norm(node, norm))
        elif not (node.outputs and node.outputs[0] in prologues):
            fused.append(node)
    return fused


def _is_prologue(node: Node, uses: _Uses) -> bool:
    is_norm = isinstance(node.op, LayerNorm) or (isinstance(node.op, RmsNorm) and node.op.heads == 1)
    if not is_norm or uses.is_kept(node.outputs[0]):
        return False
    readers = uses.readers(node.outputs[0])
    return bool(readers) and all(
        isinstance(reader.op, Linear)
        and reader.op.is_plain
        and isinstance(reader.operands["weight"].type, WeightType)
        and reader.operands["x"] is node.outputs[0]
        for reader in readers
    )


def _with_norm(linear: Node, norm: Node) -> Node:
    assert isinstance(linear.op, Linear) and isinstance(norm.op, RmsNorm | LayerNorm)
    operands: dict[str, PlanOperand] = {**linear.operands, "x": norm.operands["x"]}
    operands["norm_weight"] = norm.operands["weight"]
    if "bias" in norm.operands:
        operands["norm_bias"] = norm.operands["bias"]
    op = replace(linear.op, norm=norm.op.name, eps=norm.op.eps)
    return Node(op, operands, linear.outputs, linear.label, (*norm.plain, *linear.plain))


Epilogue = Callable[[Node, Node], tuple[Operation, dict[str, PlanOperand]] | None]
"""Gives the linear layer that stands for (linear, its only reader), or None when they do not fuse."""


def _fuse_epilogues(nodes: Sequence[Node], outputs: Mapping[str, Value], epilogue: Epilogue) -> list[Node]:
    uses = _Uses(nodes, outputs)
    replaced: set[Node] = set()
    fused: list[Node] = []
    for node in nodes:
        for value in node.reads():
            linear = uses.producers.get(value)
            if linear is None or linear in replaced or not _feeds_only(linear, uses):
                continue
            if (result := epilogue(linear, node)) is not None:
                op, operands = result
                plain = (*linear.plain, *node.plain)
                replaced.add(linear)
                # An adapted layer's low columns are its own.
                node = Node(op, operands, (*node.outputs, *linear.outputs[1:]), node.label, plain)
                break
        fused.append(node)
    return [node for node in fused if node not in replaced]


def _feeds_only(linear: Node, uses: _Uses) -> bool:
    """Whether `linear` is a linear layer whose result has one reader and is nothing else."""
    if not isinstance(linear.op, Linear | AdaptedLinear):
        return False
    out = linear.outputs[0]
    return len(uses.readers(out)) == 1 and not uses.is_kept(out)


def _with_activation(linear: Node, node: Node) -> tuple[Operation, dict[str, PlanOperand]] | None:
    weight = linear.operands["weight"].type
    if (
        not isinstance(linear.op, Linear)
        or not isinstance(weight, WeightType)
        or linear.op.activation
        or "residual" in linear.operands
    ):
        return None
    if isinstance(node.op, SiluGate) and weight.interleaved and not node.op.alternating:
        activation = "silu_gate"
    elif isinstance(node.op, Gelu) and not weight.interleaved:
        activation = "gelu_tanh" if node.op.approximate == "tanh" else "gelu_erf"
    else:
        return None
    return replace(linear.op, activation=activation), dict(linear.operands)


def _with_residual(linear: Node, node: Node) -> tuple[Operation, dict[str, PlanOperand]] | None:
    if not isinstance(node.op, Add) or "residual" in linear.operands:
        return None
    a, b = node.operands["a"], node.operands["b"]
    return linear.op, {**linear.operands, "residual": b if a is linear.outputs[0] else a}


def _pack_between(nodes: Sequence[Node], outputs: Mapping[str, Value]) -> list[Node]:
    uses = _Uses(nodes, outputs)
    changed: dict[Node, Node] = {}
    for node in nodes:
        gate = uses.producers.get(x) if isinstance(x := node.operands.get("x"), Value) else None
        if gate is None or not _feeds_only(gate, uses) or (kind := _packing_between(gate, node)) is None:
            continue
        assert isinstance(gate.op, Linear) and isinstance(node.op, Linear)
        changed[gate] = replace(gate, op=replace(gate.op, packs=kind), plain_nodes=gate.plain)
        changed[node] = replace(node, op=replace(node.op, packed_rows=True), plain_nodes=node.plain)
    return [changed.get(node, node) for node in nodes]


def _packing_between(gate: Node, reader: Node) -> str | None:
    """The kind of weight that `reader`, a product, reads in whole groups of the gated product `gate`."""
    if not isinstance(gate.op, Linear) or not isinstance(reader.op, Linear) or reader.op.norm:
        return None
    first, second = gate.operands["weight"].type, reader.operands["weight"].type
    if not isinstance(first, WeightType) or not isinstance(second, WeightType):
        return None
    is_gate = gate.op.activation in GATED_ACTIVATIONS and "residual" not in gate.operands
    in_groups = second.k % PACKED_COLUMNS == 0 and "+" not in first.kind + second.kind
    is_other = reader.operands.get("residual") is not gate.outputs[0]
    return second.kind if is_gate and in_groups and is_other else None
