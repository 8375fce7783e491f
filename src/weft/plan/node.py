"""A recorded operation with its operands and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from weft.ops.operation import Operation
from weft.plan.value import PlanOperand, Value


@dataclass(frozen=True, eq=False)
class Node:
    """`op` applied to `operands`; `label` says where in the model it stands, such as "layers.3".

    A fused node remembers in `plain_nodes` the plain nodes it stands for, in order: what interpreters
    without the fused forms run instead.
    """

    op: Operation
    operands: Mapping[str, PlanOperand]
    outputs: tuple[Value, ...]
    label: str = ""
    plain_nodes: tuple[Node, ...] = ()

    @property
    def plain(self) -> tuple[Node, ...]:
        """The plain nodes that it equals: itself unless it is fused."""
        return self.plain_nodes or (self,)

    def reads(self) -> Iterator[Value]:
        """The matrices among its operands."""
        return (operand for operand in self.operands.values() if isinstance(operand, Value))

    def __repr__(self) -> str:
        return f"Node({self.op.name} {self.label}: {', '.join(self.operands)} -> {list(self.outputs)})"
