"""Plans in the terms of the native core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from weft.errors import PlanError
from weft.plan import Node, Parameter, Plan, State, Value
from weft.runtime.kv_cache import KvCache
from weft.runtime.native import native
from weft.runtime.weights import Bound, Tensor, Weight
from weft.types import WeightType


def lower(plan: Plan, weights: Mapping[str, Bound], caches: Mapping[str, KvCache]) -> Any:
    """The native plan of `plan`, its parameters bound by name. Raises PlanError as `compile` says."""
    return _Lowering(plan, weights, caches).lower()


class _Lowering:
    """A plan in the terms of the native core."""

    def __init__(self, plan: Plan, weights: Mapping[str, Bound], caches: Mapping[str, KvCache]) -> None:
        self.plan = plan
        self.weights = weights
        self.caches = caches
        self.input_index = {value: index for index, value in enumerate(plan.inputs.values())}

    def lower(self) -> Any:
        """The native plan."""
        plan = self.plan
        buffers = [(b.rows, b.columns, str(b.dtype), b.offset_bytes) for b in plan.placement.buffers]
        return native().Plan(
            nodes=[self._node(node) for node in plan.nodes],
            buffers=buffers,
            inputs=[self._input(name, value) for name, value in plan.inputs.items()],
            outputs=[(name, self._reference(value)) for name, value in plan.outputs.items()],
            dims=dict(plan.max_sizes),
            arena_bytes=plan.placement.arena_bytes,
        )

    def _input(self, name: str, value: Value) -> tuple[str, str, int, str]:
        dimension = value.type.rows if value.type.rows in self.plan.max_sizes else ""
        return name, dimension, value.type.columns, str(value.type.dtype)

    def _node(self, node: Node) -> dict[str, Any]:
        if not node.plain_nodes and _reads_interleaved(node):
            raise PlanError(
                f"{node.label or node.op.name}: expected an interleaved weight to be fused with its "
                "activation, got a plain product; build the plan with fuse=True."
            )
        return {
            "op": node.op.name,
            "attrs": node.op.attrs,
            "operands": {name: self._operand(operand) for name, operand in node.operands.items()},
            "outputs": {
                name: self._reference(value)
                for name, value in zip(node.op.outputs, node.outputs, strict=True)
            },
        }

    def _operand(self, operand: Value | Parameter | State) -> tuple[Any, ...]:
        match operand:
            case Value():
                return self._reference(operand)
            case Parameter():
                return self._parameter(operand)
            case State():
                return ("cache", self._cache(operand).handle)

    def _reference(self, value: Value) -> tuple[Any, ...]:
        if value.base in self.input_index:
            if value.is_view:
                raise PlanError(
                    f"Expected whole inputs as operands, got {value!r}; pass the parts as inputs."
                )
            return ("input", self.input_index[value])
        place = self.plan.placement.place(value)
        return ("buffer", place.buffer, place.first_column, value.type.columns)

    def _parameter(self, parameter: Parameter) -> tuple[str, Any]:
        name = parameter.name
        content = self.plan.constants.get(name, self.weights.get(name))
        if isinstance(content, Weight) and content.type == parameter.type:
            return ("weight", content.handle)
        if isinstance(content, Tensor) and content.type == parameter.type:
            return ("tensor", content.handle)
        if isinstance(content, np.ndarray) and content.shape == (getattr(parameter.type, "size", -1),):
            return ("vector", np.ascontiguousarray(content, dtype=np.float32))
        came = getattr(content, "type", getattr(content, "shape", content))
        raise PlanError(
            f"Weight {name!r}: expected {parameter.type}, got {came}; build the plan over these weights."
        )

    def _cache(self, state: State) -> KvCache:
        cache = self.caches.get(state.name)
        if cache is None or cache.type != state.type:
            came = cache.type if cache else "none"
            raise PlanError(
                f"Cache {state.name!r}: expected {state.type}, got {came}; make it for this model."
            )
        return cache


def _reads_interleaved(node: Node) -> bool:
    weight = node.operands.get("weight")
    if weight is None or not isinstance(weight.type, WeightType) or node.op.attrs.get("alternating"):
        return False
    return weight.type.interleaved
