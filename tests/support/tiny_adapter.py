"""Random adapters of a model's folder, as training writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weft.io.open_checkpoint import open_checkpoint
from weft.models.adapter import AdapterSettings
from weft.models.registry import read_config
from weft.train.adapters import Adapter, initial_adapter, save_adapter


def write_tiny_adapter(
    folder: Path, model: Path, seed: int, rank: int = 3, kinds: tuple[str, ...] = (), strength: float = 2.0
) -> Path:
    """Writes an adapter for the model in a folder, strong enough to change its answers."""
    config = read_config(open_checkpoint(model).config)
    random = np.random.default_rng(seed)
    weights = {
        name: random.normal(0.0, values.shape[-1] ** -0.5, values.shape).astype(np.float32)
        for name, values in initial_adapter(config, kinds, rank, seed).items()
    }
    save_adapter(folder, config, Adapter(AdapterSettings(rank, strength * rank), weights, str(model)))
    return folder
