"""Low-rank adapters: what is trained beside weights that stay as they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weft import ops
from weft.ops import Matrix
from weft.plan import Parameter, Recorder
from weft.types import DType, TensorType, WeightType

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


def adapted_linear(
    r: Recorder,
    settings: AdapterSettings,
    parts: Mapping[str, int],
    x: Matrix,
    weight: Parameter,
    bias: Parameter | None,
) -> Matrix:
    """Records a linear layer, whose columns are `parts` (name: columns), as the adapters of these change
    it.
    """
    if _is_one_product(settings, parts, weight):
        layers = list(_layer_adapters(r, parts))
        return ops.adapted_linear(x, weight, layers, settings.alpha / settings.rank, bias)
    out = ops.linear(x, weight, bias)
    split = out.split(*parts.values()) if len(parts) > 1 else (out,)
    adapted = [_adapt(r, settings, part, x, value) for part, value in zip(parts, split, strict=True)]
    return adapted[0] if len(adapted) == 1 else ops.concat(*adapted)


def _is_one_product(settings: AdapterSettings, parts: Mapping[str, int], weight: Parameter) -> bool:
    """Whether all parts adapt the same `x` beside a weight that multiplies as adapters do."""
    is_exact = isinstance(weight.type, TensorType) or (
        isinstance(weight.type, WeightType) and weight.type.kind == "bf16"
    )
    return settings.dropout == 0 and is_exact and all(columns % 2 == 0 for columns in parts.values())


def _layer_adapters(r: Recorder, parts: Mapping[str, int]) -> Iterator[ops.LayerAdapter]:
    first = 0
    for part, columns in parts.items():
        if has_adapter(r.weights, part):
            yield ops.LayerAdapter(first, r.weight(f"{part}.{LORA_A}"), r.weight(f"{part}.{LORA_B}"))
        first += columns


def _adapt(r: Recorder, settings: AdapterSettings, part: str, x: Matrix, out: Matrix) -> Matrix:
    """Records what the adapter of `part` adds to `out` f32[rows, N] for `x` f32[rows, K], if it has one."""
    if not has_adapter(r.weights, part):
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
