"""The backward pass: from a recorded forward pass to the operations that give its gradients.

Nodes are visited from the last to the first, and each operation's own rule records the gradients of its
operands (reverse accumulation: Griewank and Walther, 2008). Gradients of tensors are added to where they are;
gradients of matrices are values like any other, so memory for them is placed by life-time.

What the rules read of the forward pass stays in memory until then, except what `recompute` says to compute
again: cheap operations (norms, activations), or whole segments of the model, whose inputs alone are kept
(Chen et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from weft import ops
from weft.errors import PlanError
from weft.plan.node import Node
from weft.plan.record import Recorder
from weft.plan.value import Parameter, PlanOperand, Value
from weft.types import TensorType

Recompute = Callable[[Node], bool]
"""Whether the outputs of a node are computed again in the backward pass, rather than kept."""


def recompute_cheap(node: Node) -> bool:
    """Norms and activations: a pass over memory that is there, for memory that need not be."""
    return node.op.is_cheap


def recompute_segments(node: Node) -> bool:
    """All that is recorded inside a scope: of each layer its input alone is kept."""
    return bool(node.label)


def backward(r: Recorder, gradients: Mapping[Value, Value], recompute: Recompute = recompute_cheap) -> None:
    """Records the backward pass of what `r` holds, from `gradients` of some of its values.

    Gradients of tensors are added to the parameters that `r.gradient` gives. Raises PlanError for operations
    on the way that have no backward rule.
    """
    _Backward(r, recompute).run(gradients)


class _Backward:
    """The state of one backward pass."""

    def __init__(self, r: Recorder, recompute: Recompute) -> None:
        self.recorder = r
        self.nodes = r.nodes
        self.producers = {value: node for node in self.nodes for value in node.outputs}
        self.trained = _trained_values(self.nodes)
        self.sums = _Sums()
        self._again = _Again(r, self.producers, recompute)

    def run(self, gradients: Mapping[Value, Value]) -> None:
        for value, gradient in gradients.items():
            self.sums.add(value, gradient)
        for node in reversed(self.nodes):
            d_outputs = tuple(self.sums.take(value) for value in node.outputs)
            if any(gradient is not None for gradient in d_outputs) and self._matters(node):
                with self.recorder.scope(f"{node.label}.backward" if node.label else "backward"):
                    self._visit(node, d_outputs)

    def _matters(self, node: Node) -> bool:
        return _has_tensor(node) or any(value.base in self.trained for value in node.reads())

    def _visit(self, node: Node, d_outputs: tuple[Value | None, ...]) -> None:
        call = _Call(self, node, d_outputs)
        for name, gradient in node.op.backward(call).items():
            if call.wants(name):
                operand = node.operands[name]
                assert isinstance(operand, Value)
                self.sums.add(operand, gradient)

    def again(self, operand: PlanOperand, segment: str) -> PlanOperand:
        """The operand as a rule is to read it: kept, or computed again."""
        return self._again.operand(operand, segment) if isinstance(operand, Value) else operand


@dataclass(frozen=True)
class _Call:
    """What a rule sees, a `weft.ops.operation.BackwardCall`; operands are computed again when first read."""

    state: _Backward
    node: Node
    d_outputs: tuple[Value | None, ...]

    @property
    def operands(self) -> _Operands:
        return _Operands(self.state, self.node)

    @property
    def outputs(self) -> tuple[PlanOperand, ...]:
        return tuple(self.state.again(value, self.node.label) for value in self.node.outputs)

    def wants(self, name: str) -> bool:
        operand = self.node.operands.get(name)
        return isinstance(operand, Value) and operand.base in self.state.trained

    def tensor_grad(self, name: str) -> Parameter | None:
        operand = self.node.operands.get(name)
        return self.state.recorder.gradient(operand) if isinstance(operand, Parameter) else None

    def take_sum(self, name: str) -> Value | None:
        operand = self.node.operands[name]
        assert isinstance(operand, Value)
        return self.state.sums.take(operand) if self.wants(name) else None


class _Operands(Mapping[str, PlanOperand]):
    """A node's operands by name, as the backward pass reads them."""

    def __init__(self, state: _Backward, node: Node) -> None:
        self._state = state
        self._node = node

    def __getitem__(self, name: str) -> PlanOperand:
        return self._state.again(self._node.operands[name], self._node.label)

    def __iter__(self) -> Iterator[str]:
        return iter(self._node.operands)

    def __len__(self) -> int:
        return len(self._node.operands)


class _Sums:
    """The gradient so far of each value, by the columns of it that gradients came for."""

    def __init__(self) -> None:
        self._parts: dict[Value, dict[tuple[int, int], Value]] = {}

    def add(self, value: Value, gradient: Value) -> None:
        """Adds `gradient` to that of `value`, which may be a view."""
        columns = (value.first_column, value.first_column + value.type.columns)
        parts = self._parts.setdefault(value.base, {})
        before = parts.get(columns)
        parts[columns] = gradient if before is None else _value(ops.add(before, gradient))

    def take(self, value: Value) -> Value | None:
        """Removes and gives the gradient of `value`; None where nothing depends on it."""
        parts = self._parts.get(value.base, {})
        first, end = value.first_column, value.first_column + value.type.columns
        mine = {columns: parts.pop(columns) for columns in sorted(parts) if first <= columns[0] < end}
        if not mine:
            return None
        borders = [first, *(stop for _, stop in mine)]
        if borders[:-1] != [begin for begin, _ in mine] or borders[-1] != end:
            raise PlanError(
                f"{value!r}: expected gradients of all its columns, got {sorted(mine)}; "
                "split it once, into parts that are all used."
            )
        gradients = list(mine.values())
        return gradients[0] if len(gradients) == 1 else _value(ops.concat(*gradients))


class _Again:
    """Values of the forward pass for the backward pass: as they are, or recorded once more."""

    def __init__(self, r: Recorder, producers: Mapping[Value, Node], recompute: Recompute) -> None:
        self.recorder = r
        self.producers = producers
        self.recompute = recompute
        self._copies: dict[Value, Value] = {}

    def operand(self, value: Value, segment: str) -> Value:
        """`value`, or the same computed again if it was made in `segment` and is not to be kept."""
        base = self._base(value.base, segment)
        return value if base is value.base else base.columns(value.first_column, value.type.columns)

    def _base(self, base: Value, segment: str) -> Value:
        node = self.producers.get(base)
        if node is None or not self.recompute(node) or node.label != segment:
            return base
        if base not in self._copies:
            operands = {name: self._operand(operand, segment) for name, operand in node.operands.items()}
            copies = self.recorder.record(node.op, operands)
            self._copies.update(zip(node.outputs, copies, strict=True))
        return self._copies[base]

    def _operand(self, operand: PlanOperand, segment: str) -> PlanOperand:
        return self.operand(operand, segment) if isinstance(operand, Value) else operand


def _value(matrix: ops.Matrix) -> Value:
    assert isinstance(matrix, Value)
    return matrix


def _has_tensor(node: Node) -> bool:
    return any(isinstance(operand.type, TensorType) for operand in node.operands.values())


def _trained_values(nodes: tuple[Node, ...]) -> set[Value]:
    """Values that depend on a tensor: those whose gradients are needed."""
    trained: set[Value] = set()
    for node in nodes:
        if _has_tensor(node) or any(value.base in trained for value in node.reads()):
            trained.update(node.outputs)
    return trained
