"""Recording: a model calls operations on values, and the recorder keeps them in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from weft.errors import PlanError
from weft.ops.operation import Matrix, Operand, Operation
from weft.plan.node import Node
from weft.plan.value import Parameter, PlanOperand, State, Value
from weft.types import (
    ROWS,
    Array,
    CacheType,
    DType,
    MatrixType,
    TensorType,
    VectorType,
    WeightHandle,
    WeightType,
)

Weights = Mapping[str, WeightHandle | Array]
"""A model's weights by weft name: packed handles for matrices, float32 arrays for vectors; tensors where
trained.
"""

GRADIENT_PREFIX = "d_"
"""The gradient of tensor NAME is the parameter d_NAME."""


@dataclass(frozen=True)
class Recording:
    """What a recorder has recorded, in order of execution."""

    nodes: tuple[Node, ...]
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    parameters: Mapping[str, Parameter]
    constants: Mapping[str, Array]
    states: Mapping[str, State]


@dataclass
class Recorder:
    """Records operations over `weights`. One thread at a time may use it.

    compute: how products with tensors round their factors, "f32" or "bf16".

    >>> r = Recorder(weights)
    >>> tokens = r.input("tokens")
    >>> hidden = ops.embedding(tokens, r.weight("embedding"))
    >>> r.output("hidden", hidden)
    """

    weights: Weights
    compute: str = "f32"
    _nodes: list[Node] = field(default_factory=list)
    _inputs: dict[str, Value] = field(default_factory=dict)
    _outputs: dict[str, Value] = field(default_factory=dict)
    _parameters: dict[str, Parameter] = field(default_factory=dict)
    _constants: dict[str, Array] = field(default_factory=dict)
    _states: dict[str, State] = field(default_factory=dict)
    _scopes: list[str] = field(default_factory=list)

    def input(self, name: str, rows: str = ROWS, columns: int = 1, dtype: DType = DType.I32) -> Value:
        """An array [rows, columns] that each run passes by `name`. The same name again gives the same
        value.
        """
        type_ = MatrixType(rows, columns, dtype)
        value = self._inputs.setdefault(name, Value(self, type_, name))
        if value.type != type_:
            raise PlanError(
                f"Input {name!r}: expected {value.type} as declared before, got {type_}; rename one."
            )
        return value

    def weight(self, name: str) -> Parameter:
        """The weight or vector of the model named `name`. Raises PlanError when there is none."""
        if name not in self._parameters:
            if name not in self.weights:
                raise PlanError(
                    f"Expected weight {name!r}, got a model of {len(self.weights)} weights without it; "
                    "load the weights for this configuration."
                )
            self._parameters[name] = Parameter(name, _parameter_type(name, self.weights[name]))
        return self._parameters[name]

    def gradient(self, parameter: Parameter) -> Parameter | None:
        """The tensor of the gradient of `parameter`; None where it is not trained."""
        if not isinstance(parameter.type, TensorType):
            return None
        name = GRADIENT_PREFIX + parameter.name
        return self._parameters.setdefault(name, Parameter(name, parameter.type))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What was recorded so far, in order."""
        return tuple(self._nodes)

    def constant(self, name: str, values: Array) -> Parameter:
        """A float32 vector that the plan itself carries. The same name must come with the same values."""
        vector = np.ascontiguousarray(values, dtype=np.float32)
        known = self._constants.setdefault(name, vector)
        if not np.array_equal(known, vector):
            raise PlanError(f"Constant {name!r}: expected the values given before, got others; rename one.")
        return self._parameters.setdefault(name, Parameter(name, VectorType(vector.size)))

    def cache(self, name: str, type_: CacheType) -> State:
        """A paged KV cache that is bound when the plan is compiled."""
        state = self._states.setdefault(name, State(name, type_))
        if state.type != type_:
            raise PlanError(
                f"Cache {name!r}: expected {state.type} as declared before, got {type_}; rename one."
            )
        return state

    def output(self, name: str, value: Matrix) -> None:
        """Makes `value` a result of each run, by `name`."""
        if name in self._outputs:
            raise PlanError(f"Expected each output once, got {name!r} again; rename one.")
        if not isinstance(value, Value) or value.recorder is not self:
            raise PlanError(f"Output {name!r}: expected a value of this recording, got {value!r}; record it.")
        if value.base in self._inputs.values():
            raise PlanError(f"Output {name!r}: expected an operation's result, got an input; it is known.")
        self._outputs[name] = value

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Labels what is recorded inside, for printed plans and timelines."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def record(self, op: Operation, operands: Mapping[str, Operand]) -> tuple[Value, ...]:
        """Appends `op`; gives its outputs. Raises PlanError when the operands do not fit."""
        ours = {name: self._own(op, operand) for name, operand in operands.items()}
        types = op.infer({name: operand.type for name, operand in ours.items()})
        index = len(self._nodes)
        outputs = tuple(
            Value(self, type_, f"%{index}" if len(types) == 1 else f"%{index}.{name}")
            for name, type_ in zip(op.outputs, types, strict=True)
        )
        self._nodes.append(Node(op, ours, outputs, ".".join(self._scopes)))
        return outputs

    def finish(self) -> Recording:
        """What was recorded so far. Raises PlanError when a plan of it would compute nothing."""
        if not self._nodes or not self._outputs:
            raise PlanError(
                "Expected a recording with operations and outputs, got none; record a model first."
            )
        return Recording(
            tuple(self._nodes),
            dict(self._inputs),
            dict(self._outputs),
            dict(self._parameters),
            dict(self._constants),
            dict(self._states),
        )

    def _own(self, op: Operation, operand: Operand) -> PlanOperand:
        if isinstance(operand, Parameter | State):
            return operand
        if isinstance(operand, Value) and operand.recorder is self:
            return operand
        raise PlanError(f"{op.name}: expected operands of this recording, got {operand!r}; record it here.")


def _parameter_type(name: str, weight: WeightHandle | Array) -> WeightType | VectorType | TensorType:
    if not isinstance(weight, np.ndarray):
        return weight.type
    if weight.ndim != 1:
        raise PlanError(
            f"Weight {name!r}: expected a vector or a packed weight, got an array {weight.shape}; pack it."
        )
    return VectorType(weight.size)
