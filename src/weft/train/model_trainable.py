"""A model's plans bound to its weights and gradients: what a trainer drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from weft.plan import Plan
from weft.plan.record import GRADIENT_PREFIX
from weft.plan.reference import first_fault
from weft.row_blocks import BLOCK_ROWS, compile_blocks, fits_blocks
from weft.runtime import Executable, Pool, Tensor, Weight, compile
from weft.tracer import Tracer
from weft.train.data.slices import AnySlice, Slice, SliceResult
from weft.types import Array

Frozen = Mapping[str, Weight | Array]
"""Weights that training leaves alone, by name: packed matrices and vectors."""
PlanBuilder = Callable[[Mapping[str, Weight | Tensor | Array], int], Plan]
"""Makes a plan over weights by name for slices of at most so many rows."""


@dataclass(frozen=True)
class TrainingPlans:
    """How to make the plan of a slice's forward and backward pass, and that of its losses alone.

    has_free_rows: whether no row of a slice knows of another, so that any blocks of them may run alone.
    """

    train: PlanBuilder
    evaluate: PlanBuilder
    has_free_rows: bool = False


class ModelTrainable:
    """Float32 `weights` that are trained, `frozen` ones beside them, and the plans that compute with them.

    Slices go to the teams of `pool`, one at a time each. The gradient of each slice is summed apart, from
    zero; then all are added in the order of the slices, so that the sum does not depend on the teams. Where a
    step is one slice, `num_slices` 1 saves that second set of gradients. Small models with free rows run in
    blocks of rows, one slice at a time on all threads. max_rows: tokens of the largest
    slice. seed: of the random numbers of dropout. For one thread at a time. Raises OutOfMemoryError when
    activations cannot fit.
    """

    def __init__(
        self,
        plans: TrainingPlans,
        weights: Mapping[str, Array],
        pool: Pool,
        max_rows: int,
        frozen: Frozen | None = None,
        num_slices: int | None = None,
        seed: int = 0,
    ) -> None:
        self.weights = dict(weights)
        self.gradients = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self.tracer: Tracer | None = None
        self._plans = plans
        self._pool = pool
        self._max_rows = max_rows
        self._bound: dict[str, Weight | Tensor | Array] = dict(frozen or {})
        self._bound |= {name: Tensor(weight) for name, weight in self.weights.items()}
        self._is_one_slice = num_slices == 1
        self._seed = np.array([[seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]], np.uint32)
        self._plan = plans.train(self._bound, max_rows)
        self._in_blocks = plans.has_free_rows and fits_blocks(self.weights)
        num_teams = 1 if self._is_one_slice or self._in_blocks else pool.num_teams
        self._teams = [self._make_team(index) for index in range(num_teams)]

    def run(self, slices: Sequence[AnySlice]) -> list[SliceResult]:
        """Adds the gradient of Σ loss_weights · loss to `gradients`; the same bits for any threads."""
        if self._is_one_slice:
            assert len(slices) == 1, slices
            return [self._run_on(self._teams[0], slices[0])]
        results: list[SliceResult] = []
        for first in range(0, len(slices), len(self._teams)):
            wave = slices[first : first + len(self._teams)]
            results += self._on_teams(wave)
            for team, _ in zip(self._teams, wave, strict=False):
                self._add(team.gradients)
        return results

    def evaluate(self, slices: Sequence[AnySlice]) -> list[SliceResult]:
        """The losses alone; gradients stay as they are."""
        evaluation = self._evaluation
        return [
            slice_result(slice_, evaluation.run(self._inputs(evaluation.plan, slice_))) for slice_ in slices
        ]

    def locate_fault(self, slices: Sequence[AnySlice]) -> str | None:
        """The operation of the step in which the first value that is not finite appears, or None."""
        for slice_ in slices:
            apart = {GRADIENT_PREFIX + name: np.zeros_like(weight) for name, weight in self.weights.items()}
            weights = {**self._bound, **{name: Tensor(gradient) for name, gradient in apart.items()}}
            if fault := first_fault(self._plan, weights, self._inputs(self._plan, slice_)):
                return fault
        return None

    @property
    def plan(self) -> Plan:
        """The plan of a slice: its operations, costs and memory."""
        return self._plan

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights, gradients, activations and scratch, but not of the optimizer's moments."""
        own = sum(weight.nbytes for weight in self.weights.values())
        sets = 2 if self._is_one_slice else 2 + len(self._teams)
        return own * sets + sum(team.executable.memory_bytes for team in self._teams)

    @cached_property
    def _evaluation(self) -> Executable:
        return compile(self._plans.evaluate(self._bound, self._max_rows), self._pool, self._bound)

    def _make_team(self, index: int) -> _Team:
        gradients = self.gradients
        if not self._is_one_slice:
            gradients = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        if self._in_blocks:
            plan = self._plans.train(self._bound, min(BLOCK_ROWS, self._max_rows))
            return _Team(compile_blocks(plan, self._pool, self._bound, gradients), index, gradients)
        bound = {GRADIENT_PREFIX + name: Tensor(gradient) for name, gradient in gradients.items()}
        return _Team(compile(self._plan, self._pool, {**self._bound, **bound}), index, gradients)

    def _on_teams(self, wave: Sequence[AnySlice]) -> list[SliceResult]:
        if len(wave) == 1:
            return [self._run_on(self._teams[0], wave[0])]
        with ThreadPoolExecutor(len(wave)) as callers:
            return list(callers.map(self._run_on, self._teams, wave))

    def _run_on(self, team: _Team, slice_: AnySlice) -> SliceResult:
        """Adds the slice's gradient to the team's own."""
        inputs, executable = self._inputs(self._plan, slice_), team.executable
        run = executable.run if self.tracer is None else partial(self.tracer.run, executable)
        return slice_result(slice_, run(inputs, team.index))

    def _inputs(self, plan: Plan, slice_: AnySlice) -> dict[str, Array]:
        """What a run of `plan` takes for `slice_`."""
        return plan_inputs(plan, slice_, self._seed)

    def _add(self, gradients: Mapping[str, Array]) -> None:
        """Adds a slice's gradients to the sum, and sets them to zero."""

        def add(name: str) -> None:
            np.add(self.gradients[name], gradients[name], out=self.gradients[name])
            gradients[name].fill(0)

        self._pool.map(add, gradients)


@dataclass(frozen=True)
class _Team:
    """A team of the pool with activations and gradients of its own."""

    executable: Executable
    index: int
    gradients: Mapping[str, Array]


def plan_inputs(plan: Plan, slice_: AnySlice, seed: Array | None = None) -> dict[str, Array]:
    """What a run of `plan` takes for `slice_`. seed u32[1, 2]: for plans that draw random numbers."""
    inputs = slice_.inputs() | ({} if seed is None else {"seed": seed})
    if isinstance(slice_, Slice) and (windows := plan.inputs.get("windows")) is not None:
        inputs["windows"] = last_tokens(slice_.tokens, slice_.sequences, windows.type.columns)
    return {name: inputs[name] for name in plan.inputs}


def last_tokens(tokens: Array, sequences: Array, count: int) -> Array:
    """The last `count` tokens of each row's sequence, its own last; token 0 before the first.

    tokens i32[rows, 1], sequences i32[sequences, 2] → i32[rows, count].
    """
    windows = np.zeros((len(tokens), count), np.int32)
    starts = np.repeat(sequences[:, 0], sequences[:, 1])
    rows = np.arange(len(tokens))
    for back in range(count):
        inside = rows - back >= starts
        windows[inside, count - 1 - back] = tokens[rows[inside] - back, 0]
    return windows


def slice_result(slice_: AnySlice, outputs: Mapping[str, Array]) -> SliceResult:
    """The losses of the rows that count, of a run's outputs."""
    counted = slice_.loss_weights[:, 0] > 0
    loss = outputs["loss"] if counted.all() else outputs["loss"][counted]
    correct = int(outputs["correct"][counted].sum()) if "correct" in outputs else None
    return SliceResult(float(loss.sum(dtype=np.float64)), len(loss), correct)
