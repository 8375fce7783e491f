"""Costs of a plan's nodes for run-time sizes: floating-point operations, and bytes moved."""

from __future__ import annotations

from collections.abc import Mapping

from weft.ops.operation import Cost, Sizes
from weft.plan.node import Node
from weft.types import OUTPUTS, ROWS, SEQUENCES, OperandType


def node_cost(node: Node, sizes: Sizes) -> Cost:
    """Cost of `node`: the work of the plain nodes it stands for, the traffic of what it reads and writes
    itself.
    """
    fused = node.op.cost(sizes, _types(node))
    flops = sum(plain.op.cost(sizes, _types(plain)).flops for plain in node.plain)
    return Cost(flops, fused.bytes_read, fused.bytes_written)


def run_sizes(rows: int | Mapping[str, float], max_sizes: Mapping[str, int]) -> dict[str, float]:
    """Sizes of all dimensions of a run.

    rows: tokens of the run, or sizes by dimension. What is not given: as many outputs as rows and limits
    allow, one sequence, and a context of rows that attend to those before them and themselves.
    """
    sizes: dict[str, float] = dict(rows) if isinstance(rows, Mapping) else {ROWS: rows}
    sizes.setdefault(ROWS, max_sizes.get(ROWS, 1))
    for dimension, largest in max_sizes.items():
        sizes.setdefault(dimension, min(sizes[ROWS], largest))
    sizes.setdefault(OUTPUTS, sizes[ROWS])
    sizes.setdefault(SEQUENCES, 1)
    sizes.setdefault("context", (sizes[ROWS] + 1) / 2)
    return sizes


def _types(node: Node) -> dict[str, OperandType]:
    return {name: operand.type for name, operand in node.operands.items()}
