"""The tensors of a GGUF file as a model expects them: names and order of rows as in Hugging Face files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from weft.errors import ModelFileError
from weft.io.gguf.config import GgufArchitecture
from weft.io.gguf.names import hugging_face_name
from weft.io.gguf.reader import GgufFile
from weft.io.messages import shown
from weft.io.row_order import halves_from_pairs
from weft.io.tensor_source import TensorSource

# Tensors that the configuration already accounts for.
_IN_CONFIG = frozenset({"rope_freqs.weight"})


def gguf_tensors(
    file: GgufFile, architecture: GgufArchitecture, config: dict[str, Any]
) -> dict[str, TensorSource]:
    """All tensors of `file` by Hugging Face name; q and k carry the row order that undoes llama.cpp's.

    Raises ModelFileError for q and k projections that do not have a row for each head's feature.
    """
    tensors: dict[str, TensorSource] = {}
    rows = _projection_rows(config) if architecture.pairs_neighbours else {}
    for name, tensor in file.tensors.items():
        if name in _IN_CONFIG:
            continue
        renamed = hugging_face_name(name, architecture.model_type)
        heads = rows.get(renamed.split(".")[-2]) if "." in renamed else None
        order = None
        if heads is not None:
            # Compared before the order is made: the configuration's numbers may be anything.
            if heads * config["head_dim"] != tensor.shape[0]:
                raise ModelFileError(
                    f"{file.name}: tensor {shown(name)} has {tensor.shape[0]} rows, "
                    f"{heads} heads of {config['head_dim']} were expected"
                )
            order = halves_from_pairs(heads, config["head_dim"])
        tensors[renamed] = replace(tensor, name=renamed, row_order=order)
    return tensors


def _projection_rows(config: dict[str, Any]) -> dict[str, int]:
    """Heads of the projections whose rows llama.cpp reorders."""
    return {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
