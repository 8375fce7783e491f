"""A run of a plan that was recorded: its sizes, and what the spans of its threads stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft.ops.operation import Cost
from weft.plan import Node
from weft.plan.roofline import node_kind
from weft.runtime import Executable
from weft.serve.runner import Inputs
from weft.types import WeightType


@dataclass(frozen=True)
class Operation:
    """What a span shows: operations that run together, joined by "+", where in the model, and their cost."""

    name: str
    label: str
    cost: Cost
    kind: str
    weight: str


class TracedRun:
    """A run of a plan: when, and what its operations cost for its sizes."""

    def __init__(self, executable: Executable, inputs: Inputs, begin_ns: int, end_ns: int, team: int) -> None:
        self.sizes = sizes_of(inputs)
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.team = team
        self.number = 0  # among all runs, from 1
        self._plan = executable.plan
        self._costs: list[Cost] | None = None
        self._operations: dict[int, Operation] = {}

    def operation(self, first: int, spanned: set[int]) -> Operation:
        """What ran in the span of node `first`; `spanned`: the nodes that have spans."""
        found = self._operations.get(first)
        if found is None:
            found = self._operations[first] = self._describe(first, spanned)
        return found

    def _describe(self, first: int, spanned: set[int]) -> Operation:
        if self._costs is None:
            self._costs = self._plan.costs(self.sizes)
        nodes = span_nodes(self._plan.nodes, first, spanned)
        types = [operand.type for operand in nodes[0].operands.values()]
        weight = next((str(type_) for type_ in types if isinstance(type_, WeightType)), "")
        cost = sum(self._costs[first : first + len(nodes)], Cost())
        return Operation(span_name(nodes), nodes[0].label, cost, node_kind(nodes[0]), weight)


def span_nodes(nodes: Sequence[Node], first: int, spanned: set[int]) -> Sequence[Node]:
    """The nodes that ran in the span of node `first`: it, and the row-wise ones behind it without spans of
    their own, which are not in `spanned`.
    """
    end = first + 1
    if nodes[first].op.row_wise:
        while end < len(nodes) and nodes[end].op.row_wise and end not in spanned:
            end += 1
    return nodes[first:end]


def span_name(nodes: Sequence[Node]) -> str:
    """The names of operations that ran together, joined by "+"."""
    return "+".join(dict.fromkeys(plain.op.name for node in nodes for plain in node.plain))


def sizes_of(inputs: Inputs) -> dict[str, float]:
    """Sizes of a run by dimension, and the mean number of tokens that a row attends to."""
    rows = inputs["positions"] if "positions" in inputs else inputs["loss_weights"]  # of serving, of training
    sizes = {"rows": float(len(rows))}
    if "output_rows" in inputs:
        sizes["outputs"] = len(inputs["output_rows"])
    if "sequences" in inputs:
        sizes["sequences"] = len(inputs["sequences"])
    if "positions" in inputs:
        sizes["context"] = float(rows.mean()) + 1.0
    return sizes
