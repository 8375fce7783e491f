"""Opens a model folder as Hugging Face lays it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from weft.errors import ModelFileError
from weft.io.checkpoint import Checkpoint
from weft.io.json_file import read_bounded, read_json_object
from weft.io.model_config import normalized_config
from weft.io.safetensors import open_safetensors, open_sharded
from weft.io.tensor_source import TensorSource
from weft.io.text.hf_tokenizer import tokenizer_from_folder

_MAX_TEMPLATE_BYTES = 1 << 20
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")
# Buffers that old checkpoints carry beside the weights; the configuration determines them.
_BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
# GPT-2's linear layers, which its files store as [inputs][outputs].
TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")


def open_folder(folder: Path, identity: str) -> Checkpoint:
    """The model in `folder`: config.json, and model.safetensors or its shards. Raises ModelFileError."""
    config = normalized_config(read_json_object(folder / "config.json"), str(folder / "config.json"))
    tensors, release = _open_weights(folder)
    generation = folder / "generation_config.json"
    return Checkpoint(
        path=folder,
        format="safetensors",
        config=config,
        tensors=_as_model_expects(tensors, config),
        identity=identity,
        generation_config=read_json_object(generation) if generation.is_file() else {},
        chat_template=_chat_template(folder),
        load_tokenizer=partial(tokenizer_from_folder, folder, config),
        release=release,
    )


def _open_weights(folder: Path) -> tuple[dict[str, TensorSource], Callable[[], None]]:
    if (folder / "model.safetensors.index.json").is_file():
        return open_sharded(folder / "model.safetensors.index.json")
    single = folder / "model.safetensors"
    if not single.is_file():
        found = sorted(folder.glob("*.safetensors"))
        if len(found) != 1:
            raise ModelFileError(_no_weights(folder))
        single = found[0]
    file = open_safetensors(single)
    assert file.mapping is not None
    return file.tensors, file.mapping.advise_dont_need


def _no_weights(folder: Path) -> str:
    if any((folder / name).exists() for name in _PICKLES):
        return (
            f"{folder} holds pickled weights only, and reading a pickle runs code from it: refused. "
            "Take the model as safetensors or GGUF"
        )
    return f"{folder} has no weights: model.safetensors, or its shards with their index, was expected"


def _as_model_expects(tensors: dict[str, TensorSource], config: dict[str, Any]) -> dict[str, TensorSource]:
    """The same tensors, with the prefix that base models leave out, GPT-2's transposed layers marked."""
    is_gpt2 = config.get("model_type") == "gpt2"
    prefix = ""
    if is_gpt2 and "wte.weight" in tensors:
        prefix = "transformer."
    elif not is_gpt2 and "embed_tokens.weight" in tensors:
        prefix = "model."
    expected: dict[str, TensorSource] = {}
    for name, tensor in tensors.items():
        if name.endswith(_BUFFERS):
            continue
        renamed = name if name.startswith("lm_head.") else prefix + name
        if is_gpt2 and name.endswith(TRANSPOSED) and len(tensor.shape) == 2:
            tensor = replace(tensor, shape=tensor.shape[::-1], transposed=True)
        expected[renamed] = tensor if renamed == tensor.name else replace(tensor, name=renamed)
    return expected


def _chat_template(folder: Path) -> str | None:
    """The template in chat_template.jinja, or in tokenizer_config.json (of several, the default one)."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_bounded(path, _MAX_TEMPLATE_BYTES).decode("utf-8", "replace")
    settings = folder / "tokenizer_config.json"
    template = read_json_object(settings).get("chat_template") if settings.is_file() else None
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default") or next(iter(named.values()), None)
    return template if isinstance(template, str) else None
