"""The least time that a machine could take for a plan: its limits against the plan's work and traffic.

Williams, Waterman and Patterson, "Roofline", 2009.
"""

from __future__ import annotations

from collections.abc import Mapping

from weft.machine import MachineLimits
from weft.ops.linear_input_grad import LinearInputGrad
from weft.plan.node import Node
from weft.plan.plan import Plan
from weft.types import TensorType, WeightType


def node_kind(node: Node) -> str:
    """The type of arithmetic that `node` is made of: what its products round to, or its weight's kind."""
    compute = getattr(node.op, "compute", None)
    has_tensor = any(isinstance(o.type, TensorType) for o in node.operands.values())
    if compute is not None and (has_tensor or isinstance(node.op, LinearInputGrad)):
        return str(compute)
    types = [operand.type for operand in node.operands.values()]
    return next((type_.kind for type_ in types if isinstance(type_, WeightType)), "f32")


def least_seconds(plan: Plan, sizes: int | Mapping[str, float], limits: MachineLimits) -> float:
    """The least time for a run of `sizes` (see `Plan.costs`), arithmetic and traffic at the same time."""
    costs = plan.costs(sizes)
    parts = zip(plan.nodes, costs, strict=True)
    arithmetic = sum(limits.seconds(cost.flops, 0.0, node_kind(node)) for node, cost in parts)
    return max(arithmetic, limits.seconds(0.0, sum(cost.bytes for cost in costs)))
