"""What every operation is: a frozen description with a shape rule, a cost and a NumPy reference.

An operation is one file of this folder: a frozen dataclass, whose fields are its attributes, and a function
of the same name that records it. The rules are methods that take the operands by name:

    shape(**types) -> MatrixType             validates and gives the outputs' types; raises PlanError
    flops(sizes, **types) -> float           work for run-time sizes of the dimensions
    reference(**arrays) -> Array             the plain definition in NumPy, in the precision of its arguments

A backward rule is one more method of the class, `backward(call) -> {operand: gradient}`: it records further
operations, as a model file does, on the operands, outputs and gradients of the outputs that `call` has. It
leaves out operands without a gradient, and adds to the gradients of tensors (`call.tensor_grad`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from weft.errors import PlanError
from weft.types import CacheType, DType, MatrixType, OperandType, TensorType, VectorType, WeightType

Sizes = Mapping[str, float]
"""Run-time sizes by dimension; also "context", the mean number of cached tokens that a row attends to."""


class Operand(Protocol):
    """Something an operation takes: a matrix, or a named parameter or state of the plan."""

    @property
    def type(self) -> OperandType:
        """Its shape and element type."""


class Matrix(Operand, Protocol):
    """A matrix of the recording under way: what `ops` functions take and give."""

    @property
    def type(self) -> MatrixType:
        """Its row dimension, columns and element type."""

    @property
    def recorder(self) -> OperationRecorder:
        """The recording that it belongs to."""

    def split(self, *columns: int) -> tuple[Matrix, ...]:
        """Views of successive column ranges of these widths."""


class OperationRecorder(Protocol):
    """Where operations are recorded; `weft.plan.record.Recorder` is one."""

    @property
    def compute(self) -> str:
        """How products with tensors round their factors: "f32" or "bf16"."""

    def record(self, op: Operation, operands: Mapping[str, Operand]) -> tuple[Matrix, ...]:
        """Checks the operands, appends the operation, and gives its outputs in their order."""


@dataclass(frozen=True)
class OperandSpec:
    """The name of an operand, what it must be, whether it may be left out, and whether a matrix of float32
    may come rounded to bfloat16.
    """

    name: str
    types: tuple[type[OperandType], ...]
    dtype: DType = DType.F32
    optional: bool = False
    may_be_narrow: bool = False


def matrix(
    name: str, dtype: DType = DType.F32, optional: bool = False, may_be_narrow: bool = False
) -> OperandSpec:
    """An operand that is a matrix of `dtype`, or one of bfloat16 where it may be narrow."""
    return OperandSpec(name, (MatrixType,), dtype, optional, may_be_narrow)


def vector(name: str, optional: bool = False) -> OperandSpec:
    """An operand that is a float32 vector, fixed or trained."""
    return OperandSpec(name, (VectorType, TensorType), optional=optional)


def weight(name: str) -> OperandSpec:
    """An operand that is a weight, packed or trained."""
    return OperandSpec(name, (WeightType, TensorType))


def tensor(name: str, optional: bool = False) -> OperandSpec:
    """An operand that is a tensor which the operation adds to: a gradient."""
    return OperandSpec(name, (TensorType,), optional=optional)


def cache(name: str) -> OperandSpec:
    """An operand that is a KV cache."""
    return OperandSpec(name, (CacheType,))


class BackwardCall(Protocol):
    """A recorded call of an operation whose gradients are being recorded."""

    @property
    def operands(self) -> Mapping[str, Any]:
        """The operands by name, as recorded or recomputed."""

    @property
    def outputs(self) -> tuple[Any, ...]:
        """The outputs, as recorded or recomputed."""

    @property
    def d_outputs(self) -> tuple[Any, ...]:
        """Gradients of the outputs, None where nothing depends on one."""

    def wants(self, name: str) -> bool:
        """Whether operand `name` is a matrix whose gradient somebody needs."""

    def tensor_grad(self, name: str) -> Any:
        """The tensor that gradients of operand `name` are added to; None where it is fixed or left out."""

    def take_sum(self, name: str) -> Any:
        """The gradient of operand `name` from calls after this one, for the rule to add; None for none."""


@dataclass(frozen=True)
class Cost:
    """What a run of an operation takes: floating-point operations, and bytes moved (weights in packed
    bytes).
    """

    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0

    @property
    def bytes(self) -> float:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )


@dataclass(frozen=True)
class Operation:
    """Base of all operations; see the module's text for what a subclass defines."""

    name: ClassVar[str]
    operands: ClassVar[tuple[OperandSpec, ...]]
    outputs: ClassVar[tuple[str, ...]] = ("out",)
    row_wise: ClassVar[bool] = False
    """Whether row r of each output depends on row r of each input alone: neighbours then run row by row."""
    in_place_of: ClassVar[tuple[str, ...]] = ()
    """Operands whose memory the output may take, the preferred one first."""
    side_by_side: ClassVar[bool] = False
    """Whether the output is the operands, in their order, side by side: they may lie within it."""
    is_cheap: ClassVar[bool] = False
    """Whether a backward pass rather computes the output again than keeps it."""

    @property
    def attrs(self) -> dict[str, float | int | str]:
        """The attributes by name, as native code takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def shape(self, *args: Any, **types: Any) -> MatrixType | tuple[MatrixType, ...]:
        """Types of the outputs, in the order of `outputs`. Raises PlanError when the operands do not fit."""
        raise NotImplementedError(self.name)

    def flops(self, *args: Any, **types: Any) -> float:
        """Floating-point operations for run-time `sizes`, the first argument."""
        raise NotImplementedError(self.name)

    def reference(self, *args: Any, **arrays: Any) -> Any:
        """The operation on NumPy arrays; one array for each output (a tuple when there are several)."""
        raise NotImplementedError(self.name)

    def backward(self, call: BackwardCall) -> Mapping[str, Any]:
        """Records the gradients of the operands; see the module's text. Raises PlanError without a rule."""
        raise PlanError(
            f"{self.name}: expected an operation with a backward rule, got one for inference; "
            "train without it."
        )

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        """Bytes of operands for run-time `sizes`: each operand once, unless the operation says otherwise."""
        return sum(operand_bytes(type_, sizes) for type_ in types.values())

    def bytes_written(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        """Bytes of results for run-time `sizes`."""
        return sum(operand_bytes(type_, sizes) for type_ in self.infer(types))

    def infer(self, types: Mapping[str, OperandType]) -> tuple[MatrixType, ...]:
        """Types of the outputs, after checking that the right operands came. Raises PlanError."""
        check_operands(self, types)
        result = self.shape(**types)
        return result if isinstance(result, tuple) else (result,)

    def cost(self, sizes: Sizes, types: Mapping[str, OperandType]) -> Cost:
        """Work and traffic for run-time `sizes` of the dimensions."""
        flops = self.flops(sizes, **types)
        return Cost(flops, self.bytes_read(sizes, types), self.bytes_written(sizes, types))


def record(op: Operation, **operands: Operand | None) -> tuple[Matrix, ...]:
    """Records `op` where its matrices are being recorded; operands that are None are left out."""
    given = {name: operand for name, operand in operands.items() if operand is not None}
    for operand in given.values():
        recorder: OperationRecorder | None = getattr(operand, "recorder", None)
        if recorder is not None:
            return recorder.record(op, given)
    raise PlanError(
        f"{op.name}: expected at least one matrix of a recording, got {sorted(given)}; "
        "begin with an input of a Recorder."
    )


def operand_bytes(type_: OperandType, sizes: Sizes) -> float:
    """Bytes of a whole operand; a cache counts nothing here, as no operation reads all of it."""
    match type_:
        case MatrixType():
            return sizes[type_.rows] * type_.row_bytes
        case VectorType():
            return type_.size * DType.F32.itemsize
        case WeightType() | TensorType():
            return type_.nbytes
        case CacheType():
            return 0.0


def check_operands(op: Operation, types: Mapping[str, OperandType]) -> None:
    """Raises PlanError unless each operand of `op` is there, is of its kind, and none is unknown."""
    specs = {spec.name: spec for spec in op.operands}
    if unknown := sorted(set(types) - set(specs)):
        raise PlanError(f"{op.name}: expected operands {list(specs)}, got also {unknown}; leave them out.")
    for spec in specs.values():
        if spec.name in types:
            _check_operand(op, spec, types[spec.name])
        elif not spec.optional:
            raise PlanError(f"{op.name}: expected operand {spec.name!r}, got {sorted(types)}; pass it.")


def _check_operand(op: Operation, spec: OperandSpec, type_: OperandType) -> None:
    if not isinstance(type_, spec.types):
        wanted, came = " or ".join(known.__name__ for known in spec.types), type(type_).__name__
        raise PlanError(
            f"{op.name}: expected {spec.name} to be a {wanted}, got a {came}; pass the right operand."
        )
    if not isinstance(type_, MatrixType):
        return
    if type_.dtype is not spec.dtype and not (spec.may_be_narrow and type_.dtype is DType.BF16):
        raise PlanError(f"{op.name}: expected {spec.name} of {spec.dtype}, got {type_}; convert it first.")


def expect(op: Operation, condition: bool, expected: str, came: object, remedy: str) -> None:
    """Raises PlanError in the three parts of our messages unless `condition` holds."""
    if not condition:
        raise PlanError(f"{op.name}: expected {expected}, got {came}; {remedy}.")


def expect_same_rows(op: Operation, types: Sequence[MatrixType]) -> None:
    """Raises PlanError unless all matrices share one row dimension."""
    dims = sorted({type_.rows for type_ in types})
    expect(op, len(dims) == 1, "matrices of one row dimension", dims, "gather the rows that belong together")
