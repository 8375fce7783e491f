"""Plans whose rows know nothing of one another, run in blocks of rows that stay in a thread's caches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from weft.plan import Plan
from weft.plan.record import GRADIENT_PREFIX
from weft.runtime import Bound, Executable, Pool, Tensor, compile, native
from weft.types import Array

_MOST_WEIGHT_BYTES = 1 << 19


class BlockExecutable(Executable):
    """A plan that all threads of `pool` run, each on blocks of the rows, with no barrier between operations.

    The bits of its results depend on the rows and on `plan`, made for the rows of a block, alone.
    """

    def run(self, inputs: Mapping[str, Array], team: int = 0, trace: Any = None) -> dict[str, Array]:
        """Outputs by name for arrays of any number of rows, as `Executable.run`; `team` is not looked at."""
        outputs: dict[str, Array] = self.handle.run(self.pool.handle, dict(inputs), trace)
        return outputs


BLOCK_ROWS = 256
"""Of a block: many enough that packing weights for each costs little."""


def fits_blocks(weights: Mapping[str, Array]) -> bool:
    """Whether `weights` and their gradients are small enough to stay in a thread's cache beside a block."""
    return sum(weight.nbytes for weight in weights.values()) <= _MOST_WEIGHT_BYTES


def compile_blocks(
    plan: Plan, pool: Pool, weights: Mapping[str, Bound], gradients: Mapping[str, Array]
) -> BlockExecutable:
    """`plan`, made for the rows of a block, ready to run on all threads of `pool`.

    gradients: by the names of their weights, what runs add to. Raises PlanError, OutOfMemoryError.
    """
    plans, own = [], []
    for _ in range(pool.num_threads):
        tensors = {name: Tensor(np.zeros_like(gradient)) for name, gradient in gradients.items()}
        bound = {GRADIENT_PREFIX + name: tensor for name, tensor in tensors.items()}
        plans.append(compile(plan, pool, {**weights, **bound}).handle)
        own.append([tensor.handle for tensor in tensors.values()])
    sums = [Tensor(gradient).handle for gradient in gradients.values()]
    return BlockExecutable(plan, native().RowBlocks(plans, own, sums), pool)
