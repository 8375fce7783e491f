"""The frozen plan: operations in order, every buffer placed, costs known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from weft.errors import PlanError
from weft.ops.operation import Cost
from weft.plan.cost import node_cost, run_sizes
from weft.plan.fuse import fuse as fuse_recording
from weft.plan.memory import Placement, place_values
from weft.plan.narrow import narrow
from weft.plan.node import Node
from weft.plan.printing import format_plan
from weft.plan.record import Recording
from weft.plan.value import Parameter, State, Value
from weft.types import Array, TensorType, WeightType


@dataclass(frozen=True, eq=False)
class Plan:
    """Operations over placed buffers, for at most `max_sizes` rows of each dimension. May be shared by
    threads.

    `parameters`, `constants` and `states` are what the nodes name: weights and caches to bind when it is
    compiled, vectors that it carries itself. `str(plan)` is a table of it.
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    parameters: Mapping[str, Parameter]
    constants: Mapping[str, Array]
    states: Mapping[str, State]
    max_sizes: Mapping[str, int]
    placement: Placement

    @property
    def peak_bytes(self) -> int:
        """Bytes of all activations at the largest sizes; weights and caches are not among them."""
        return self.placement.arena_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed weights and the tensors that it names, each counted once."""
        types = [parameter.type for parameter in self.parameters.values()]
        return sum(type_.nbytes for type_ in types if isinstance(type_, WeightType | TensorType))

    def costs(self, rows: int | Mapping[str, float]) -> list[Cost]:
        """Cost of each node for a run of `rows` tokens, or of sizes by dimension (see `run_sizes`)."""
        sizes = run_sizes(rows, self.max_sizes)
        return [node_cost(node, sizes) for node in self.nodes]

    def flops(self, rows: int | Mapping[str, float]) -> float:
        """Floating-point operations of a run."""
        return sum(cost.flops for cost in self.costs(rows))

    def bytes(self, rows: int | Mapping[str, float]) -> float:
        """Bytes that a run reads and writes, weights in packed bytes."""
        return sum(cost.bytes for cost in self.costs(rows))

    def __str__(self) -> str:
        return format_plan(self)


def freeze(recording: Recording, max_sizes: Mapping[str, int], fuse: bool = True) -> Plan:
    """A plan of `recording` for at most `max_sizes` rows of each dimension; fused unless told otherwise.

    Raises PlanError when a dimension has no size or one below 1.
    """
    for dimension, size in max_sizes.items():
        if size < 1:
            raise PlanError(
                f"Expected at least 1 for the largest size of {dimension!r}, got {size}; raise it."
            )
    if fuse:
        recording = narrow(fuse_recording(recording))
    return Plan(
        recording.nodes,
        MappingProxyType(dict(recording.inputs)),
        MappingProxyType(dict(recording.outputs)),
        MappingProxyType(dict(recording.parameters)),
        MappingProxyType(dict(recording.constants)),
        MappingProxyType(dict(recording.states)),
        MappingProxyType(dict(max_sizes)),
        place_values(recording.nodes, recording.outputs, max_sizes),
    )
