"""Several adapters beside one model: their thin matrices, joined for each product that they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weft import ops
from weft.models.adapter import LORA_A, LORA_B, AdapterSettings
from weft.ops import Matrix
from weft.ops.low_rank import LowRankSegment, segment_fields
from weft.plan import Recorder
from weft.types import INTERLEAVED_BLOCK, Array


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter: its settings, and lora_a [rank, K] and lora_b [N, rank] of the parts that it has."""

    settings: AdapterSettings
    weights: Mapping[str, Array]


class AdapterBank:
    """Adapters by their numbers, from 1 on; 0 is none. Plans that are recorded with it share its arrays."""

    def __init__(self, adapters: Sequence[AdapterWeights] = ()) -> None:
        self.adapters = tuple(adapters)
        self._arrays: dict[str, tuple[Array, Array, Array]] = {}

    def adapts(self, parts: Mapping[str, int]) -> bool:
        """Whether any adapter changes any of `parts`."""
        names = [f"{part}.{LORA_A}" for part in parts]
        return any(name in adapter.weights for adapter in self.adapters for name in names)

    def add(
        self,
        r: Recorder,
        numbers: Matrix,
        parts: Mapping[str, int],
        x: Matrix,
        out: Matrix,
        alternating: bool,
    ) -> Matrix:
        """Records what the adapters add to `out` f32[rows, N], the parts side by side, for `x` f32[rows, K].

        numbers i32[rows, 1]: each row's adapter. alternating: the columns of two parts take turns, as in
        `weft.ops.linear`.
        """
        if not self.adapts(parts):
            return out
        name = next(iter(parts)) + ".low_rank"
        if name not in self._arrays:
            self._arrays[name] = self._join(parts, alternating)
        a, b, segments = (
            r.constant(f"{name}.{operand}", values)
            for operand, values in zip(("a", "b", "segments"), self._arrays[name], strict=True)
        )
        return ops.low_rank(x, out, numbers, a, b, segments, len(self.adapters))

    def _join(self, parts: Mapping[str, int], alternating: bool) -> tuple[Array, Array, Array]:
        downs, ups, segments = [], [], []
        for number, adapter in enumerate(self.adapters, start=1):
            first = 0
            for part, columns in parts.items():
                down = adapter.weights.get(f"{part}.{LORA_A}")
                if down is not None:
                    rank = len(down)
                    run, stride = (
                        (INTERLEAVED_BLOCK, 2 * INTERLEAVED_BLOCK) if alternating else (columns, columns)
                    )
                    segments.append(LowRankSegment(number, rank, first, columns, run, stride))
                    downs.append(down.reshape(-1))
                    scale = np.float32(adapter.settings.alpha / adapter.settings.rank)
                    ups.append((scale * adapter.weights[f"{part}.{LORA_B}"]).T.reshape(-1))
                first += INTERLEAVED_BLOCK if alternating else columns
        join = [np.concatenate(arrays).astype(np.float32) for arrays in (downs, ups)]
        return join[0], join[1], segment_fields(segments)
