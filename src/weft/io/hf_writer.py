"""Writes a model folder as Hugging Face lays it out, which transformers and weft load."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.errors import ConfigError
from weft.io.atomic_file import sync_folder, write_atomically
from weft.io.bfloat16 import to_bfloat16
from weft.io.hf_folder import TRANSPOSED
from weft.io.safetensors import write_safetensors
from weft.io.tensor_source import TensorSource
from weft.io.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True)
class TextFiles:
    """What a folder holds beside its weights: config.json's settings, tokenizer, template, and defaults for
    sampling.
    """

    settings: Mapping[str, Any]
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    generation_config: Mapping[str, Any] | None = None


def write_folder(
    folder: Path, text: TextFiles, tensors: Iterable[tuple[str, NDArray[np.float32]]], dtype: str
) -> None:
    """Makes `folder` a model of float32 `tensors`, by Hugging Face name, (n, k) as the model uses them.

    Whole or not at all: written beside its name, then renamed; what had the name before goes. dtype: the
    type in the file, "float32", "bfloat16" or "float16". Raises ConfigError, OSError.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"Expected dtype to be one of {', '.join(DTYPES)}, got {dtype!r}; choose one.")
    with _draft(folder) as draft:
        is_gpt2 = text.settings.get("model_type") == "gpt2"
        sources = [_source(name, array, dtype, is_gpt2) for name, array in tensors]
        write_safetensors(draft / "model.safetensors", sources, {"format": "pt"})
        settings = {**text.settings, "dtype": dtype}
        settings.pop("torch_dtype", None)
        _write_json(draft / "config.json", settings)
        if text.generation_config:
            _write_json(draft / "generation_config.json", text.generation_config)
        if text.tokenizer is not None:
            write_tokenizer(draft, text.tokenizer, text.chat_template, text.settings)


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer, chat_template: str | None, settings: Mapping[str, Any]
) -> None:
    """Writes tokenizer.json, its settings, and the chat template. Raises OSError."""
    tokenizer.save(folder / "tokenizer.json")
    special = tokenizer.special
    named = {"bos_token": special.bos_id, "eos_token": special.eos_id, "pad_token": special.pad_id}
    described: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    described |= {name: tokenizer.token_of(number) for name, number in named.items() if number is not None}
    described["model_max_length"] = settings.get("max_position_embeddings", settings.get("n_positions"))
    described["clean_up_tokenization_spaces"] = False
    if chat_template is not None:
        described["chat_template"] = chat_template
        write_atomically(folder / "chat_template.jinja", chat_template.encode())
    _write_json(folder / "tokenizer_config.json", described)


@contextlib.contextmanager
def _draft(folder: Path) -> Any:
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        sync_folder(draft)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _source(name: str, array: NDArray[np.float32], dtype: str, is_gpt2: bool) -> TensorSource:
    import numpy as np

    if is_gpt2 and array.ndim == 2 and name.endswith(TRANSPOSED):
        array = array.T
    if dtype == "bfloat16":
        stored: NDArray[Any] = to_bfloat16(array)
    else:
        stored = np.ascontiguousarray(array, np.float16 if dtype == "float16" else np.float32)
    return TensorSource(name, DTYPES[dtype], stored.shape, stored.reshape(-1).data.cast("B"))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
