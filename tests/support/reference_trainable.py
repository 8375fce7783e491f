"""Real models trained through their plans on NumPy: slow, and without native code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from support.plain_tensor import PlainTensor
from support.tiny_trainable import NumpyUpdate

from weft.models.training import build_evaluation_plan, build_training_plan
from weft.plan.record import GRADIENT_PREFIX
from weft.plan.reference import ReferenceExecutable
from weft.train.config import TrainConfig
from weft.train.data.slices import Slice, SliceResult
from weft.train.model_trainable import last_tokens
from weft.train.origin import Origin
from weft.train.prepare import Machinery
from weft.types import Array


class ReferenceTrainable:
    """A model's training plan in float32 NumPy."""

    def __init__(self, config: TrainConfig, origin: Origin, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.tracer = None
        self.gradients = {name: np.zeros_like(weight) for name, weight in weights.items()}
        arrays = weights | {GRADIENT_PREFIX + name: array for name, array in self.gradients.items()}
        tensors = {name: PlainTensor(array) for name, array in arrays.items()}
        rows = config.rows_per_slice * config.max_seq_length
        plans = [
            build(origin.config, tensors, rows) for build in (build_training_plan, build_evaluation_plan)
        ]
        self._train, self._evaluate = (ReferenceExecutable(plan, tensors, dtype=np.float32) for plan in plans)

    def run(self, slices: Sequence[Slice]) -> list[SliceResult]:
        return [self._run(self._train, slice_) for slice_ in slices]

    def evaluate(self, slices: Sequence[Slice]) -> list[SliceResult]:
        return [self._run(self._evaluate, slice_) for slice_ in slices]

    def locate_fault(self, slices: Sequence[Slice]) -> str | None:
        return None

    def _run(self, executable: ReferenceExecutable, slice_: Slice) -> SliceResult:
        inputs = slice_.inputs()
        if (windows := executable.plan.inputs.get("windows")) is not None:
            inputs["windows"] = last_tokens(slice_.tokens, slice_.sequences, windows.type.columns)
        result = executable.run(inputs)
        counted = slice_.loss_weights[:, 0] > 0
        return SliceResult(
            float(result["loss"][counted].astype(np.float64).sum()),
            int(counted.sum()),
            int(result["correct"][counted].sum()),
        )


def reference_machinery(config: TrainConfig, origin: Origin, weights: dict[str, Array]) -> Machinery:
    """For `weft.train.prepare`."""
    return Machinery(ReferenceTrainable(config, origin, weights), NumpyUpdate())
