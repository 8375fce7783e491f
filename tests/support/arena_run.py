"""Runs a plan inside its arena as native threads may: the rows of a chain of operations in any order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from weft.plan import Node, Parameter, Plan, Value, Weights
from weft.plan.reference import ReferenceExecutable
from weft.types import Array


class ArenaRun:
    """One run of `plan`, with float64 elements in place of float32 ones."""

    def __init__(self, plan: Plan, weights: Weights, inputs: Mapping[str, Array], seed: int) -> None:
        self.plan = plan
        self.inputs = inputs
        self.draw = np.random.default_rng(seed)
        self.parameters = ReferenceExecutable(plan, weights).parameters
        self.arena = np.full(plan.peak_bytes // 4, np.nan)
        self.sizes = {"rows": len(inputs["tokens"]), "outputs": len(inputs["output_rows"])}

    def run(self) -> dict[str, Array]:
        """The outputs, read from the arena at the end."""
        for chain in self._chains():
            if not chain[0].op.row_wise:
                self._apply(chain[0], slice(None))
                continue
            for row in self.draw.permutation(self.sizes[self._rows(chain[0])]):
                for node in chain:
                    self._apply(node, slice(row, row + 1))
        return {name: self._view(value).copy() for name, value in self.plan.outputs.items()}

    def _chains(self) -> list[list[Node]]:
        """Neighbours that run row by row without a barrier; each other node by itself."""
        chains: list[list[Node]] = []
        for node in self.plan.nodes:
            joins = chains and chains[-1][0].op.row_wise and node.op.row_wise
            if joins and self._rows(chains[-1][0]) == self._rows(node):
                chains[-1].append(node)
            else:
                chains.append([node])
        return chains

    def _rows(self, node: Node) -> str:
        return node.outputs[0].type.rows

    def _apply(self, node: Node, rows: slice) -> None:
        results: dict[Value, Array] = {}
        for plain in node.plain:
            operands = {}
            for name, operand in plain.operands.items():
                if isinstance(operand, Parameter):
                    operands[name] = self.parameters[operand.name]
                elif operand.base in results:
                    first = operand.first_column
                    operands[name] = results[operand.base][:, first : first + operand.type.columns]
                else:
                    operands[name] = self._view(operand)[rows if node.op.row_wise else slice(None)].copy()
            results[plain.outputs[0]] = plain.op.reference(**operands)
        self._view(node.outputs[0])[rows] = results[node.outputs[0]]

    def _view(self, value: Value) -> Array:
        if value.base.name in self.inputs:
            return self.inputs[value.base.name]
        place = self.plan.placement.place(value)
        buffer = self.plan.placement.buffers[place.buffer]
        begin, rows = buffer.offset_bytes // 4, self.sizes[buffer.rows]
        whole = self.arena[begin : begin + rows * buffer.columns].reshape(rows, buffer.columns)
        return whole[:, place.first_column : place.first_column + value.type.columns]
