"""What flows through a plan: values (matrices), parameters (weights, vectors) and states (caches)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.errors import PlanError
from weft.types import CacheType, MatrixType, TensorType, VectorType, WeightType

if TYPE_CHECKING:
    from weft.plan.record import Recorder


class Value:
    """A matrix of a plan: an input, an output of a node, or a view of some columns of another value.

    Values are compared by identity. `base` is the value that a view looks into, itself for all others.
    """

    __slots__ = ("base", "first_column", "name", "recorder", "type")

    def __init__(
        self,
        recorder: Recorder,
        type_: MatrixType,
        name: str,
        base: Value | None = None,
        first_column: int = 0,
    ) -> None:
        self.recorder = recorder
        self.type = type_
        self.name = name
        self.base = self if base is None else base
        self.first_column = first_column

    @property
    def is_view(self) -> bool:
        """Whether it is some columns of another value."""
        return self.base is not self

    def columns(self, first: int, count: int) -> Value:
        """A view of columns [first, first + count). Raises PlanError when they are not all there."""
        if not (first >= 0 and count > 0 and first + count <= self.type.columns):
            raise PlanError(
                f"{self.name}: expected columns inside 0 to {self.type.columns}, got {first} to "
                f"{first + count}; "
                "correct the widths of the parts."
            )
        type_ = MatrixType(self.type.rows, count, self.type.dtype)
        name = f"{self.name}[{first}:{first + count}]"
        return Value(self.recorder, type_, name, self.base, self.first_column + first)

    def split(self, *columns: int) -> tuple[Value, ...]:
        """Views of successive column ranges of these widths, which cover all columns. Raises PlanError."""
        if sum(columns) != self.type.columns:
            raise PlanError(
                f"{self.name}: expected parts that sum to {self.type.columns} columns, got {columns}; "
                "correct the widths of the parts."
            )
        starts = [sum(columns[:index]) for index in range(len(columns))]
        return tuple(self.columns(first, count) for first, count in zip(starts, columns, strict=True))

    def __repr__(self) -> str:
        return f"Value({self.name}: {self.type})"


class Parameter:
    """A weight or a vector that a plan names, and that is bound when it is compiled."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type_: WeightType | VectorType | TensorType) -> None:
        self.name = name
        self.type = type_

    def __repr__(self) -> str:
        return f"Parameter({self.name}: {self.type})"


class State:
    """A cache that a plan reads and writes, and that is bound when it is compiled."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type_: CacheType) -> None:
        self.name = name
        self.type = type_

    def __repr__(self) -> str:
        return f"State({self.name}: {self.type})"


PlanOperand = Value | Parameter | State
