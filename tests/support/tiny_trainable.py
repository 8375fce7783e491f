"""A bigram model in NumPy with exact gradients, and torch's optimizers in NumPy: what a trainer trains."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from weft.train.data.slices import Slice, SliceResult
from weft.train.optimizer import UpdateRule
from weft.types import Array


class TinyTrainable:
    """logits = embedding[token] @ head.T + bias over V tokens, float32. `delay_s` slows each slice down."""

    def __init__(self, vocabulary: int = 258, features: int = 8, seed: int = 0, delay_s: float = 0.0) -> None:
        random = np.random.default_rng(seed)
        self.weights = {
            "embedding": random.normal(size=(vocabulary, features)).astype(np.float32),
            "head": random.normal(size=(vocabulary, features)).astype(np.float32) / 3,
            "bias": np.zeros((1, vocabulary), np.float32),
        }
        self.gradients = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        self.delay_s = delay_s
        self.tracer = None

    def run(self, slices: Sequence[Slice]) -> list[SliceResult]:
        return [self._run(slice_, learn=True) for slice_ in slices]

    def evaluate(self, slices: Sequence[Slice]) -> list[SliceResult]:
        return [self._run(slice_, learn=False) for slice_ in slices]

    def locate_fault(self, slices: Sequence[Slice]) -> str | None:
        return next((name for name, weight in self.weights.items() if not np.isfinite(weight).all()), None)

    def _run(self, slice_: Slice, learn: bool) -> SliceResult:
        time.sleep(self.delay_s)
        tokens, targets, weights = slice_.tokens[:, 0], slice_.targets[:, 0], slice_.loss_weights
        x, rows = self.weights["embedding"][tokens], np.arange(len(tokens))
        logits = x @ self.weights["head"].T + self.weights["bias"]
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        counted = weights[:, 0] > 0
        if learn:
            d_logits = np.exp(log_probs)
            d_logits[rows, targets] -= 1
            d_logits *= weights
            self.gradients["head"] += d_logits.T @ x
            self.gradients["bias"] += d_logits.sum(axis=0, keepdims=True)
            np.add.at(self.gradients["embedding"], tokens, d_logits @ self.weights["head"])
        return SliceResult(
            float(-log_probs[rows, targets][counted].astype(np.float64).sum()),
            int(counted.sum()),
            int((logits.argmax(axis=1) == targets)[counted].sum()),
        )


class NumpyUpdate:
    """torch.optim's single-tensor formulas in float32."""

    def gradient_norm(self, gradients: Sequence[Array]) -> float:
        return float(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients)))

    def update(
        self,
        rule: UpdateRule,
        tensors: Sequence[tuple[Array, Array, Array | None, Array | None]],
        learning_rate: float,
        gradient_scale: float,
        step: int,
    ) -> None:
        for weight, gradient, first, second in tensors:
            g = gradient * np.float32(gradient_scale)
            if rule.kind == "sgd":
                self._sgd(rule, weight, g, first, learning_rate, step)
            else:
                self._adam(rule, weight, g, first, second, learning_rate, step)
            gradient[...] = 0

    def _sgd(self, rule, weight, g, first, learning_rate, step):
        g = g + np.float32(rule.weight_decay) * weight
        if first is not None:
            first[...] = g if step == 1 else np.float32(rule.momentum) * first + g
            g = g + np.float32(rule.momentum) * first if rule.nesterov else first
        weight -= np.float32(learning_rate) * g

    def _adam(self, rule, weight, g, first, second, learning_rate, step):
        if rule.kind == "adamw":
            weight *= np.float32(1 - learning_rate * rule.weight_decay)
        else:
            g = g + np.float32(rule.weight_decay) * weight
        first += (g - first) * np.float32(1 - rule.beta1)
        second *= np.float32(rule.beta2)
        second += np.float32(1 - rule.beta2) * g * g
        size = np.float32(learning_rate / (1 - rule.beta1**step))
        root = np.sqrt(second) / np.float32(np.sqrt(1 - rule.beta2**step)) + np.float32(rule.eps)
        weight -= size * first / root


def arrays_equal(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    """Whether two sets of arrays are equal to the bit."""
    return first.keys() == second.keys() and all(
        first[name].tobytes() == second[name].tobytes() for name in first
    )
