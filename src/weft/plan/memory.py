"""Memory: every buffer of a plan gets its place in one arena, by the time that it lives.

A value lives from the node that makes it to the last that reads it. Buffers whose lives do not meet may
share bytes. An operation that says so writes over an operand that nobody reads afterwards; the views of a
linear layer's parts stay columns of one buffer, and what is only put side by side is made there.
Neighbouring row-wise operations run row by row without a barrier between them, so a buffer that lives in such
a chain is kept for all of it: another row's values must not land on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from weft.errors import PlanError
from weft.plan.node import Node
from weft.plan.value import Value
from weft.types import DType, MatrixType

ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Buffer:
    """Rows of `columns` elements at `offset_bytes` of the arena, for the largest number of rows of its
    dimension.

    It lives from node `first_node` to node `last_node`, both included. Rows are padded to whole vectors, so
    that each begins at an aligned address.
    """

    rows: str
    columns: int
    dtype: DType
    offset_bytes: int
    nbytes: int
    first_node: int
    last_node: int


@dataclass(frozen=True)
class Place:
    """Where a value lies: from `first_column` on in buffer number `buffer`."""

    buffer: int
    first_column: int


@dataclass(frozen=True)
class Placement:
    """All buffers, the place of each value that is no input, and the size of the arena."""

    buffers: tuple[Buffer, ...]
    places: Mapping[Value, Place]
    arena_bytes: int

    def place(self, value: Value) -> Place:
        """Where `value`, or the part of its base that it views, lies."""
        base = self.places[value.base]
        return Place(base.buffer, base.first_column + value.first_column)


def place_values(
    nodes: Sequence[Node], outputs: Mapping[str, Value], max_sizes: Mapping[str, int]
) -> Placement:
    """Places every value that `nodes` make, for at most `max_sizes` rows of each dimension. Raises
    PlanError.
    """
    storage = _Storage(nodes, outputs)
    chains = _chains(nodes)
    lives = [_life(storage, root, chains) for root in storage.roots]
    sizes = [_aligned(max_rows(root.type, max_sizes) * _padded(root.type)[1]) for root in storage.roots]
    offsets = _first_fit(sizes, lives)
    buffers = tuple(
        Buffer(root.type.rows, _padded(root.type)[0], root.type.dtype, offset, size, *life)
        for root, offset, size, life in zip(storage.roots, offsets, sizes, lives, strict=True)
    )
    index = {root: number for number, root in enumerate(storage.roots)}
    places = {value: Place(index[root], column) for value, (root, column) in storage.homes.items()}
    arena_bytes = max((buffer.offset_bytes + buffer.nbytes for buffer in buffers), default=0)
    placement = Placement(buffers, places, arena_bytes)
    check_placement(placement)
    return placement


def max_rows(type_: MatrixType, max_sizes: Mapping[str, int]) -> int:
    """The largest number of rows of a matrix. Raises PlanError for a dimension without a limit."""
    if type_.rows not in max_sizes:
        raise PlanError(
            f"Expected a largest size for dimension {type_.rows!r}, got {dict(max_sizes)}; add it."
        )
    return max_sizes[type_.rows]


def check_placement(placement: Placement) -> None:
    """Raises PlanError when two buffers that live at the same time share bytes: a fault of ours."""
    for number, one in enumerate(placement.buffers):
        for other in placement.buffers[:number]:
            alive_together = one.first_node <= other.last_node and other.first_node <= one.last_node
            apart = (
                one.offset_bytes + one.nbytes <= other.offset_bytes
                or other.offset_bytes + other.nbytes <= one.offset_bytes
            )
            if alive_together and not apart:
                raise PlanError(
                    f"Expected buffers apart, got {one} over {other}; report this as a fault of weft."
                )


class _Storage:
    """Which value's memory each value lies in: its own, or that of an operand that it writes over."""

    def __init__(self, nodes: Sequence[Node], outputs: Mapping[str, Value]) -> None:
        self.born: dict[Value, int] = {}
        self.last_read: dict[Value, int] = {}  # by view or value, as it was read
        self._note_uses(nodes, outputs)
        self.homes: dict[Value, tuple[Value, int]] = {}
        self._guests: dict[Value, list[Value]] = {}  # root -> values and views that lie in it
        for index, node in enumerate(nodes):
            for value in node.outputs:
                self._settle(value, self._home(index, node, value))
        for index, node in enumerate(nodes):
            if node.op.side_by_side:
                self._join(index, node.outputs[0], list(node.reads()))
        self.roots = [value for value, (root, _) in self.homes.items() if root is value]

    def _note_uses(self, nodes: Sequence[Node], outputs: Mapping[str, Value]) -> None:
        for index, node in enumerate(nodes):
            for value in node.outputs:
                self.born[value] = index
            for value in node.reads():
                self.last_read[value] = index
        for value in outputs.values():
            self.last_read[value] = len(nodes)
        for value in [*self.born, *self.last_read]:
            self.last_read.setdefault(value, self.born.get(value.base, 0))

    def locate(self, value: Value) -> tuple[Value, int]:
        """The root in which `value` lies and its first column there."""
        root, column = self.homes[value.base]
        return root, column + value.first_column

    def guests(self, root: Value) -> list[Value]:
        """All values and views that lie in `root`."""
        return self._guests[root]

    def _settle(self, value: Value, home: tuple[Value, int]) -> None:
        self.homes[value] = home
        views = [view for view in self.last_read if view.base is value and view is not value]
        self._guests.setdefault(home[0], []).extend([value, *views])

    def _home(self, index: int, node: Node, out: Value) -> tuple[Value, int]:
        for name in node.op.in_place_of:
            operand = node.operands.get(name)
            if isinstance(operand, Value) and self._may_overwrite(index, node, name, operand, out):
                return self.locate(operand)
        return out, 0

    def _may_overwrite(self, index: int, node: Node, name: str, operand: Value, out: Value) -> bool:
        if operand.base not in self.born or operand.type != out.type:
            return False
        others = (node.operands[other] for other in node.operands if other != name)
        if any(self._is_harmed(node, operand, other) for other in others if isinstance(other, Value)):
            return False
        root, _ = self.locate(operand)
        return all(
            self.last_read[guest] <= index for guest in self._guests[root] if self._overlap(operand, guest)
        )

    def _is_harmed(self, node: Node, operand: Value, other: Value) -> bool:
        """Whether `node` may still read of `other` what it wrote over `operand`."""
        if not self._overlap(operand, other):
            return False
        alike = self.locate(other) == self.locate(operand) and other.type == operand.type
        return not (alike and node.op.row_wise)

    def _join(self, index: int, out: Value, parts: Sequence[Value]) -> None:
        """Has `out` of node `index`, which is `parts` side by side, share memory with them where it can."""
        is_plain = all(part.base in self.homes and part.type.dtype == out.type.dtype for part in parts)
        if not is_plain or self.homes[out][0] is not out:
            return
        columns = [sum(part.type.columns for part in parts[:number]) for number in range(len(parts))]
        places = [self.locate(part) for part in parts]
        roots = {root for root, _ in places}
        if out in roots or not self._may_share(index, {out, *roots}):
            return
        first_root, first = places[0]
        if places == [(first_root, first + column) for column in columns]:
            self._move(out, first_root, first)
        elif len(roots) == len(parts) and all(map(self._fills, parts, columns)):
            for (root, _), column in zip(places, columns, strict=True):
                self._move(root, out, column)

    def _may_share(self, index: int, roots: Iterable[Value]) -> bool:
        """Whether nobody writes over what lies in `roots` after node `index` that others may still read."""
        guests = [guest for root in roots for guest in self._guests[root]]
        written = [self.born[guest.base] for guest in guests if self.born[guest.base] > index]
        before = [guest for guest in guests if self.born[guest.base] <= index]
        return not written or max(self.last_read[guest] for guest in before) <= min(written)

    def _fills(self, part: Value, column: int) -> bool:
        """Whether `part` is all of its root, and would begin at an aligned address in column `column`."""
        root, first = self.locate(part)
        return (
            first == 0 and root.type == part.type and column * part.type.dtype.itemsize % ALIGNMENT_BYTES == 0
        )

    def _move(self, root: Value, to: Value, column: int) -> None:
        """Has all that lies in `root` lie in `to`, from `column` on."""
        for guest in self._guests[root]:
            if guest.base is guest:
                self.homes[guest] = (to, self.homes[guest][1] + column)
        self._guests[to] += self._guests.pop(root)

    def _overlap(self, one: Value, other: Value) -> bool:
        if one.base not in self.homes or other.base not in self.homes:
            return False
        (root, first), (other_root, other_first) = self.locate(one), self.locate(other)
        if root is not other_root:
            return False
        return first < other_first + other.type.columns and other_first < first + one.type.columns


def _chains(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """For each node, the first and last node of the run of row-wise neighbours that it belongs to."""
    bounds: list[tuple[int, int]] = []
    first = 0
    for index, node in enumerate(nodes):
        if not (index and node.op.row_wise and nodes[index - 1].op.row_wise):
            first = index
        bounds.append((first, index))
        for earlier in range(first, index):
            bounds[earlier] = (first, index)
    return bounds


def _life(storage: _Storage, root: Value, chains: Sequence[tuple[int, int]]) -> tuple[int, int]:
    first = min(storage.born[guest.base] for guest in storage.guests(root))
    last = max(storage.last_read[guest] for guest in storage.guests(root))
    return chains[first][0], last if last >= len(chains) else chains[last][1]


def _padded(type_: MatrixType) -> tuple[int, int]:
    """Columns of a row padded to the alignment, and its bytes; a single column stays as it is."""
    if type_.columns == 1:
        return 1, type_.row_bytes
    row_bytes = _aligned(type_.row_bytes)
    return row_bytes // type_.dtype.itemsize, row_bytes


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _first_fit(sizes: Sequence[int], lives: Sequence[tuple[int, int]]) -> list[int]:
    """Offsets of all buffers: the largest is placed first, each at the lowest gap among those it lives
    with.
    """
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda n: (-sizes[n], lives[n], n)):
        first, last = lives[number]
        together = [other for other in placed if lives[other][0] <= last and first <= lives[other][1]]
        offset = 0
        for other in sorted(together, key=lambda n: offsets[n]):
            if offset + sizes[number] <= offsets[other]:
                break
            offset = max(offset, offsets[other] + sizes[other])
        offsets[number] = offset
        placed.append(number)
    return offsets
