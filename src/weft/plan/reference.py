"""A slow interpreter of plans in NumPy: the oracle of tests. It runs the plain nodes, in float64 unless
told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from weft.errors import ConfigError, PlanError
from weft.ops.reference_cache import ReferenceCache
from weft.plan.node import Node
from weft.plan.plan import Plan
from weft.plan.record import Weights
from weft.plan.value import Parameter, PlanOperand, State, Value
from weft.types import Array


class ReferenceExecutable:
    """`plan` on NumPy, over `weights` by name, in precision `dtype`. Caches hold `num_blocks` blocks and
    persist.

    One thread at a time may run it.
    """

    def __init__(
        self, plan: Plan, weights: Weights, num_blocks: int = 64, dtype: type[np.floating] = np.float64
    ) -> None:
        self.plan = plan
        self.dtype = dtype
        self.parameters = {name: self._bind(name, weights) for name in plan.parameters}
        self.caches = {
            name: ReferenceCache(state.type, num_blocks, dtype) for name, state in plan.states.items()
        }

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for arrays [n, columns] of inputs by name. Raises ConfigError when one is
        missing.
        """
        values: dict[Value, Array] = {
            value: self._input(name, value, inputs) for name, value in self.plan.inputs.items()
        }
        for node in plain_nodes(self.plan):
            self._run_node(node, values)
        return {name: self._operand(value, values) for name, value in self.plan.outputs.items()}

    def _run_node(self, node: Node, values: dict[Value, Array]) -> None:
        operands = {name: self._operand(operand, values) for name, operand in node.operands.items()}
        results = node.op.reference(**operands)
        if not isinstance(results, tuple):
            results = (results,)
        for value, result in zip(node.outputs, results, strict=True):
            if result.shape[1] != value.type.columns:
                raise PlanError(
                    f"{node!r}: expected {value.type}, got {result.shape}; its shape rule is wrong."
                )
            values[value] = result

    def _operand(self, operand: PlanOperand, values: Mapping[Value, Array]) -> Any:
        return operand_array(operand, self.parameters, self.caches, values)

    def _bind(self, name: str, weights: Weights) -> Array:
        constant = self.plan.constants.get(name)
        if constant is not None:
            return constant.astype(self.dtype)
        weight = weights[name]
        content = weight if isinstance(weight, np.ndarray) else weight.dequantize()
        return np.asarray(content, dtype=self.dtype)

    def _input(self, name: str, value: Value, inputs: Mapping[str, Array]) -> Array:
        if name not in inputs:
            raise ConfigError(f"Expected input {name!r}, got {sorted(inputs)}; pass it.")
        array = np.asarray(inputs[name])
        if array.ndim != 2 or array.shape[1] != value.type.columns:
            raise ConfigError(f"Input {name!r}: expected {value.type}, got {array.shape}; reshape it.")
        return array.astype(self.dtype) if array.dtype.kind == "f" else array


def first_fault(plan: Plan, weights: Weights, inputs: Mapping[str, Array]) -> str | None:
    """The first operation whose result in float32 is not finite, with its place; None if all are finite.

    Adds to the gradients among `weights`.
    """
    executable = ReferenceExecutable(plan, weights, dtype=np.float32)
    values = {value: executable._input(name, value, inputs) for name, value in plan.inputs.items()}
    with np.errstate(all="ignore"):
        for node in plain_nodes(plan):
            executable._run_node(node, values)
            if not all(np.isfinite(values[value]).all() for value in node.outputs):
                return f"{node.op.name} in {node.label}" if node.label else node.op.name
    return None


def plain_nodes(plan: Plan) -> Iterator[Node]:
    """The plain nodes that the plan stands for, each once, in order."""
    seen: set[Node] = set()
    for node in plan.nodes:
        for plain in node.plain:
            if plain not in seen:
                seen.add(plain)
                yield plain


def operand_array(
    operand: PlanOperand,
    parameters: Mapping[str, Any],
    caches: Mapping[str, Any],
    values: Mapping[Value, Any],
) -> Any:
    """What an interpreter of plans passes for `operand`: a parameter's or a cache's by its name, or the
    columns of a value, of those computed so far.
    """
    match operand:
        case Parameter():
            return parameters[operand.name]
        case State():
            return caches[operand.name]
        case Value():
            first = operand.first_column
            return values[operand.base][:, first : first + operand.type.columns]
