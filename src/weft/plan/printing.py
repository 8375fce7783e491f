"""A plan as a table: operations, shapes, weights, costs, and where the results lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weft.plan.node import Node
from weft.types import ROWS, TensorType, VectorType, WeightType

if TYPE_CHECKING:
    from weft.plan.plan import Plan

HEADER = ("#", "operation", "where", "inputs", "output", "weight", "FLOPs", "bytes", "at byte")


def format_plan(plan: Plan) -> str:
    """The table of `plan` at its largest sizes, with totals and peak memory below."""
    costs = plan.costs(dict(plan.max_sizes))
    rows = [
        (
            str(number),
            *_node_cells(plan, node),
            format_count(cost.flops),
            format_bytes(cost.bytes),
            _place(plan, node),
        )
        for number, (node, cost) in enumerate(zip(plan.nodes, costs, strict=True))
    ]
    sizes = ", ".join(f"{name} ≤ {size}" for name, size in plan.max_sizes.items())
    flops, nbytes = sum(cost.flops for cost in costs), sum(cost.bytes for cost in costs)
    return "\n".join(
        [
            f"plan of {len(plan.nodes)} operations, {sizes}; inputs: {', '.join(plan.inputs)}; "
            f"outputs: {', '.join(plan.outputs)}",
            *_lines([HEADER, *rows]),
            f"total at {plan.max_sizes.get(ROWS, 1)} rows: {format_count(flops)} FLOPs, "
            f"{format_bytes(nbytes)} moved; "
            f"weights {format_bytes(plan.weight_bytes)}; peak memory of activations "
            f"{format_bytes(plan.peak_bytes)} in {len(plan.placement.buffers)} buffers",
        ]
    )


def format_count(count: float) -> str:
    """A count with a decimal prefix: 1.23 G."""
    return _scaled(count, 1000, ("", " k", " M", " G", " T", " P"))


def format_bytes(count: float) -> str:
    """Bytes with a binary prefix: 1.23 MiB."""
    return _scaled(count, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _scaled(count: float, step: int, units: Sequence[str]) -> str:
    power = 0
    while count >= step and power < len(units) - 1:
        count /= step
        power += 1
    unit = units[power]
    return f"{count:.0f}{unit}" if count == int(count) else f"{count:.2f}{unit}"


def _node_cells(plan: Plan, node: Node) -> tuple[str, str, str, str, str]:
    given = set(plan.inputs.values())
    inputs = ", ".join(value.name if value in given else str(value.type) for value in node.reads())
    outputs = ", ".join(str(value.type) for value in node.outputs)
    parameters = (operand.type for operand in node.operands.values())
    weights = [str(type_) for type_ in parameters if isinstance(type_, WeightType | TensorType)] or [
        str(operand.type) for operand in node.operands.values() if isinstance(operand.type, VectorType)
    ]
    return "+".join(_operation_names(node)), node.label, inputs, outputs, ", ".join(weights)


def _operation_names(node: Node) -> Iterator[str]:
    return (plain.op.name for plain in node.plain)


def _place(plan: Plan, node: Node) -> str:
    cells = []
    for value in node.outputs:
        place = plan.placement.place(value)
        offset = plan.placement.buffers[place.buffer].offset_bytes
        cells.append(f"{offset}+{place.first_column}" if place.first_column else str(offset))
    return ", ".join(cells)


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numeric = {HEADER.index(name) for name in ("#", "FLOPs", "bytes", "at byte")}
    for row in rows:
        cells = (
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
