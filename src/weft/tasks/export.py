"""Models in other formats: a Hugging Face folder, a GGUF file, torch's state dictionary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weft.errors import ConfigError, UnsupportedError
from weft.io.atomic_file import atomic_file
from weft.io.gguf.export import export_gguf
from weft.io.hf_writer import write_folder
from weft.models.lstm import LstmConfig
from weft.models.vector_perceptron import TENSORS
from weft.tasks.vectors import holds_perceptron, load_perceptron
from weft.train.master import Master, open_master
from weft.train.master_weights import split_parts


def export_folder(model: str, folder: Path, dtype: str = "bfloat16", adapter: str | None = None) -> None:
    """Writes `model` (see `open_master`) as a Hugging Face folder, which transformers and weft load.

    Raises ConfigError where `folder` holds anything but a model, which it would take the place of.
    """
    folder = folder.absolute()
    _check_place(folder)
    write_master(open_master(model, adapter), folder, dtype)


def write_master(master: Master, folder: Path, dtype: str) -> None:
    """Writes weights, configuration and tokenizer as a Hugging Face folder."""
    origin = master.origin
    write_folder(folder, origin.text_files(), split_parts(origin.config, master.weights), dtype)


def _check_place(folder: Path) -> None:
    inside = list(folder.iterdir()) if folder.is_dir() else []
    is_model = (folder / "config.json").is_file() and not any(path.is_dir() for path in inside)
    if inside and not is_model:
        raise ConfigError(f"{folder}: expected a new or empty folder, got one in use; choose another one.")


def export_gguf_file(model: str, path: Path, kind: str = "f16", adapter: str | None = None) -> None:
    """Writes `model` as a GGUF file, which llama.cpp and weft load. kind: of its matrices."""
    master = open_master(model, adapter)
    tensors = split_parts(master.origin.config, master.weights)
    export_gguf(path, master.origin.text_files(), tensors, kind, path.stem)


def export_state(model: str, path: Path, adapter: str | None = None) -> None:
    """Writes `model` as a state dictionary of float32 tensors, for torch.load and load_state_dict.

    Names are those of Hugging Face's classes, or of torch's Embedding, LSTM and Linear. Raises
    UnsupportedError without torch.
    """
    try:
        import torch
    except ImportError as error:
        raise UnsupportedError(
            "Expected torch to write a .pth file, got none; pip install 'weft[torch]'."
        ) from error
    if holds_perceptron(model):
        with load_perceptron(model, threads=1) as perceptron:
            weights = perceptron.weights
        state = {TENSORS[name]: torch.from_numpy(weight) for name, weight in weights.items()}
        with atomic_file(path) as file:
            torch.save(state, file)
        return
    master = open_master(model, adapter)
    config = master.origin.config
    state = {name: torch.from_numpy(np.array(array)) for name, array in split_parts(config, master.weights)}
    if isinstance(config, LstmConfig):
        # torch has a second bias of the gates, which adds nothing that the first one cannot.
        for layer in range(config.num_layers):
            state[f"lstm.bias_hh_l{layer}"] = torch.zeros(4 * config.hidden_features)
    with atomic_file(path) as file:
        torch.save(state, file)
