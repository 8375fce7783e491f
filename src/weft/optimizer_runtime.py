"""The optimizer's native half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weft.runtime import Pool, Tensor, native
from weft.types import Array


class OptimizerKernel:
    """The native half of an optimizer, on all threads of `pool`; its bits do not depend on their number.

    It keeps the arrays that it was given: to make their tensors takes longer than to update a few weights.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._tensors: dict[int, Tensor] = {}

    def gradient_norm(self, gradients: Sequence[Array]) -> float:
        """Square root of the sum of all squares of float32 arrays."""
        return float(native().gradient_norm(self.pool.handle, [self._handle(g) for g in gradients]))

    def update(
        self,
        rule: Any,
        tensors: Sequence[tuple[Array, Array, Array | None, Array | None]],
        learning_rate: float,
        gradient_scale: float,
        step: int,
    ) -> None:
        """Updates weights in place by (weight, gradient, first, second moment), float32 arrays of one shape
        each; sets the gradients to zero.

        rule: kind "sgd", "adam" or "adamw", beta1, beta2, eps, weight_decay, momentum, nesterov, as
        attributes. step: number of this update, counted from 1. Raises ConfigError for arrays that do not
        fit.
        """
        columns = [
            [self._handle(array) for array in column if array is not None]
            for column in zip(*tensors, strict=True)
        ]
        names = ("kind", "beta1", "beta2", "eps", "weight_decay", "momentum", "nesterov")
        numbers = {name: getattr(rule, name) for name in names}
        steps = {"learning_rate": learning_rate, "gradient_scale": gradient_scale, "step": step}
        weights, gradients, first, second = columns or ([], [], [], [])
        native().update_weights(
            self.pool.handle,
            weights=weights,
            gradients=gradients,
            first=first,
            second=second,
            **numbers,
            **steps,
        )

    def _handle(self, array: Array) -> Any:
        if id(array) not in self._tensors:
            self._tensors[id(array)] = Tensor(array)
        return self._tensors[id(array)].handle
