"""The optimizer: clips all gradients together, then updates the weights of each group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from weft.types import Array


@dataclass(frozen=True)
class UpdateRule:
    """What an update does, in torch's terms: kind "sgd", "adam" or "adamw", and its numbers."""

    kind: str
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    momentum: float
    nesterov: bool


class UpdateKernel(Protocol):
    """What the native core does for an optimizer."""

    def gradient_norm(self, gradients: Sequence[Array]) -> float:
        """Square root of the sum of all squares."""

    def update(
        self,
        rule: UpdateRule,
        tensors: Sequence[tuple[Array, Array, Array | None, Array | None]],
        learning_rate: float,
        gradient_scale: float,
        step: int,
    ) -> None:
        """Updates weights in place by gradient, first and second moment; sets the gradients to zero.

        step: number of this update, counted from 1.
        """


class Optimizer:
    """Updates float32 `weights` by their `gradients`, arrays of the same names and shapes. For one thread.

    Matrices decay, vectors do not; where none does, one call updates all. state: the moments by name,
    "first.NAME" and "second.NAME".
    """

    def __init__(
        self,
        rule: UpdateRule,
        clip_norm: float,
        weights: Mapping[str, Array],
        gradients: Mapping[str, Array],
        kernel: UpdateKernel,
    ) -> None:
        self.rule = rule
        self.clip_norm = clip_norm
        self._gradients = [gradients[name] for name in weights]
        self._kernel = kernel
        self.state = {
            f"{moment}.{name}": np.zeros_like(weight)
            for name, weight in weights.items()
            for moment in _moments(rule)
        }
        kinds = [(True, False)] if rule.weight_decay == 0 else [(True,), (False,)]
        self._groups = [
            (_decaying(rule, decays[0]), self._tensors(weights, gradients, decays)) for decays in kinds
        ]

    def gradient_norm(self) -> float:
        """The size of all gradients together, before clipping; not finite where one of them is not."""
        return self._kernel.gradient_norm(self._gradients)

    def step(self, norm: float, learning_rate: float, step: int) -> None:
        """Update number `step`, counted from 1, for gradients of size `norm`; leaves the gradients zero."""
        scale = 1.0
        if self.clip_norm > 0 and math.isfinite(norm):
            scale = min(1.0, self.clip_norm / (norm + 1e-6))
        for rule, tensors in self._groups:
            if tensors:
                self._kernel.update(rule, tensors, learning_rate, scale, step)

    def _tensors(
        self, weights: Mapping[str, Array], gradients: Mapping[str, Array], decays: Sequence[bool]
    ) -> list[tuple[Array, Array, Array | None, Array | None]]:
        return [
            (weight, gradients[name], self.state.get(f"first.{name}"), self.state.get(f"second.{name}"))
            for name, weight in weights.items()
            if is_matrix(weight) in decays
        ]


def is_matrix(weight: Array) -> bool:
    """Whether a weight is a matrix; a vector may be held as a matrix of one row."""
    return weight.ndim > 1 and min(weight.shape) > 1


def _moments(rule: UpdateRule) -> tuple[str, ...]:
    if rule.kind == "sgd":
        return ("first",) if rule.momentum > 0 else ()
    return ("first", "second")


def _decaying(rule: UpdateRule, decays: bool) -> UpdateRule:
    return rule if decays else replace(rule, weight_decay=0.0)
