"""Adapters on disk as PEFT lays them out, and fused into the weights beside which they were trained.

Format: adapter_config.json and adapter_model.safetensors of Hugging Face's PEFT, type LORA.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weft.errors import ConfigError, ModelFileError, ModelNotFoundError, UnsupportedError
from weft.io.atomic_file import write_atomically
from weft.io.json_file import read_json_object
from weft.io.safetensors import open_safetensors, write_safetensors
from weft.io.tensor_source import TensorSource
from weft.models.adapter import LORA_A, LORA_B, AdapterSettings
from weft.models.config import TokenModelConfig
from weft.models.gpt2 import Gpt2Config
from weft.models.part_shapes import part_shapes, specs_of
from weft.models.weight_spec import Role
from weft.types import Array

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterPart:
    """A linear layer that may be adapted: weft's name for it, the module in Hugging Face's, [n, k], and where
    its rows begin in the weight that holds it.
    """

    name: str
    module: str
    n: int
    k: int
    weight: str
    first_row: int

    @property
    def kind(self) -> str:
        """What target layers are chosen by, such as q_proj."""
        return self.module.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class Adapter:
    """A trained adapter: its settings, and lora_a [rank, k] and lora_b [n, rank] of each part by name."""

    settings: AdapterSettings
    weights: Mapping[str, Array]
    base: str | None


def adapter_parts(config: TokenModelConfig, kinds: Sequence[str] = ()) -> list[AdapterPart]:
    """The linear layers of a model, or those of `kinds`. Raises ConfigError for a kind that it lacks."""
    shapes = part_shapes(config)
    parts = []
    for spec in specs_of(config):
        if spec.role is not Role.MATRIX or not spec.name.startswith("layers."):
            continue
        row = 0
        for tensor in spec.parts:
            module = tensor.removesuffix(".weight")
            layer = spec.name.rsplit(".", 1)[0]
            # GPT-2 has one tensor a weight, and two layers called c_proj.
            name = spec.name if isinstance(config, Gpt2Config) else f"{layer}.{module.rsplit('.', 1)[-1]}"
            n, k = shapes[tensor]
            parts.append(AdapterPart(name, module, n, k, spec.name, row))
            row += n
    if unknown := sorted(set(kinds) - {part.kind for part in parts}):
        known = ", ".join(dict.fromkeys(part.kind for part in parts))
        raise ConfigError(f"Expected layers among {known}, got {', '.join(unknown)}; choose some of these.")
    return [part for part in parts if not kinds or part.kind in kinds]


def initial_adapter(config: TokenModelConfig, kinds: Sequence[str], rank: int, seed: int) -> dict[str, Array]:
    """Tensors of a new adapter by name: A uniform within ±1/√k; B zero, to add nothing at first.

    Raises ConfigError for a kind that the model lacks, or a rank that no layer of it can have.
    """
    weights: dict[str, Array] = {}
    parts = adapter_parts(config, kinds)
    highest = max(min(part.n, part.k) for part in parts)
    if rank > highest:
        raise ConfigError(f"Expected a rank of at most {highest}, that of the layers, got {rank}; lower it.")
    for index, part in enumerate(parts):
        random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
        bound = np.float32(1 / math.sqrt(part.k))
        a = (random.random((rank, part.k), np.float32) * 2 - 1) * bound
        weights[f"{part.name}.{LORA_A}"] = a
        weights[f"{part.name}.{LORA_B}"] = np.zeros((part.n, rank), np.float32)
    return weights


def save_adapter(folder: Path, config: TokenModelConfig, adapter: Adapter) -> None:
    """Writes the adapter to `folder`, float32, for PEFT and for weft. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [part for part in adapter_parts(config) if f"{part.name}.{LORA_A}" in adapter.weights]
    sources = [
        TensorSource(
            f"{_PREFIX}{part.module}.{theirs}.weight", "F32", array.shape, array.reshape(-1).data.cast("B")
        )
        for part in parts
        for ours, theirs in ((LORA_A, "lora_A"), (LORA_B, "lora_B"))
        for array in [np.ascontiguousarray(adapter.weights[f"{part.name}.{ours}"])]
    ]
    write_safetensors(folder / WEIGHTS_FILE, sources, {"format": "pt"})
    settings = adapter.settings
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": sorted({part.kind for part in parts}),
        "fan_in_fan_out": isinstance(config, Gpt2Config),
        "bias": "none",
        "inference_mode": True,
    }
    write_atomically(folder / CONFIG_FILE, (json.dumps(described, indent=2) + "\n").encode())


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter."""
    return (folder / CONFIG_FILE).is_file()


def adapter_folder(path: Path) -> Path:
    """The folder of the adapter that `path`, it or a run's folder, points at. Raises ModelNotFoundError."""
    for folder in (path, path / "final"):
        if is_adapter(folder):
            return folder
    raise ModelNotFoundError(f"{path}: expected an adapter ({CONFIG_FILE}), got none there; check the path.")


def load_adapter(folder: Path, config: TokenModelConfig) -> Adapter:
    """The adapter in `folder` for a model of that configuration, weft's or PEFT's.

    Raises ModelFileError when it does not fit the model, UnsupportedError for other kinds of adapters.
    """
    settings = read_json_object(folder / CONFIG_FILE)
    _refuse_variants(settings, folder)
    tensors = open_safetensors(folder / WEIGHTS_FILE).tensors
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if type(rank) is not int or rank < 1 or not isinstance(alpha, int | float):
        raise ModelFileError(f"{folder}: expected r and lora_alpha as numbers, got {rank!r} and {alpha!r}.")
    weights: dict[str, Array] = {}
    for part in adapter_parts(config):
        for ours, theirs, shape in ((LORA_A, "lora_A", (rank, part.k)), (LORA_B, "lora_B", (part.n, rank))):
            source = tensors.get(f"{_PREFIX}{part.module}.{theirs}.weight")
            if source is None:
                continue
            if source.shape != shape:
                raise ModelFileError(
                    f"{folder}: expected {theirs} of {part.module} to be {shape}, got {source.shape}; take "
                    "the model that the adapter was trained for."
                )
            weights[f"{part.name}.{ours}"] = source.dequantize()
    if len(weights) != len(tensors):
        raise ModelFileError(
            f"{folder}: expected an adapter of this model, got {len(tensors)} tensors of which "
            f"{len(weights)} have a place in it; take the model that it was trained for."
        )
    dropout = float(settings.get("lora_dropout") or 0.0)
    return Adapter(
        AdapterSettings(rank, float(alpha), dropout), weights, settings.get("base_model_name_or_path")
    )


def fuse(config: TokenModelConfig, weights: Mapping[str, Array], adapter: Adapter) -> None:
    """Adds what the adapter adds to the master weights themselves, in place."""
    scale = np.float32(adapter.settings.alpha / adapter.settings.rank)
    for part in adapter_parts(config):
        a, b = (adapter.weights.get(f"{part.name}.{name}") for name in (LORA_A, LORA_B))
        if a is not None and b is not None:
            weights[part.weight][part.first_row : part.first_row + part.n] += scale * (b @ a)


def _refuse_variants(settings: Mapping[str, Any], folder: Path) -> None:
    expected: dict[str, tuple[Any, ...]] = {
        "peft_type": ("LORA",),
        "bias": ("none",),
        "use_rslora": (False, None),
        "use_dora": (False, None),
        "modules_to_save": (None, []),
        "rank_pattern": ({}, None),
        "alpha_pattern": ({}, None),
    }
    for name, values in expected.items():
        if settings.get(name, values[0]) not in values:
            raise UnsupportedError(
                f"{folder}: expected {name} {values[0]!r} of an adapter, got {settings[name]!r}; "
                "train a plain LoRA adapter."
            )
