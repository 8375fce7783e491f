"""Low-rank adapters: what is trained beside weights that stay as they are."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft import ops
from weft.ops import Matrix
from weft.plan import Recorder
from weft.types import DType

LORA_A, LORA_B = "lora_a", "lora_b"


@dataclass(frozen=True)
class AdapterSettings:
    """out = x · Wᵀ + alpha / rank · dropout(x) · Aᵀ · Bᵀ, A [rank, K], B [N, rank]. Hu et al., 2021 (LoRA).

    The tensors of a part of the model, such as layers.3.q_proj, are layers.3.q_proj.lora_a and …lora_b;
    parts without them are not adapted.
    """

    rank: int
    alpha: float
    dropout: float = 0.0


def adapt(r: Recorder, settings: AdapterSettings, part: str, x: Matrix, out: Matrix) -> Matrix:
    """Records what the adapter of `part` adds to `out` f32[rows, N] for `x` f32[rows, K], if it has one."""
    if f"{part}.{LORA_A}" not in r.weights:
        return out
    if settings.dropout > 0:
        x = _dropout(r, settings, part, x)
    low = ops.linear(x, r.weight(f"{part}.{LORA_A}"))
    low = ops.scale(low, settings.alpha / settings.rank)
    return ops.add(out, ops.linear(low, r.weight(f"{part}.{LORA_B}")))


def _dropout(r: Recorder, settings: AdapterSettings, part: str, x: Matrix) -> Matrix:
    row_ids = r.input("row_ids", dtype=DType.I64)
    seed = r.input("seed", "seed", columns=2, dtype=DType.U32)
    return ops.dropout(x, row_ids, seed, settings.dropout, stream=zlib.crc32(part.encode()))


def has_adapter(weights: Mapping[str, Any], part: str) -> bool:
    """Whether `part` is adapted."""
    return f"{part}.{LORA_A}" in weights
