"""Finds the files of a model in a Hugging Face repository.

Addresses: `/api/models/OWNER/NAME/revision/REVISION` lists files, `/OWNER/NAME/resolve/REVISION/FILE` is one.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import quote

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.fetch.download import RemoteFile, fetch_json
from weft.io.fetch.hub_names import HubModel

_FOLDER_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja", ".bpe")
# Of several GGUF files the first of these that is there, when none is asked for.
_PREFERRED_QUANTS = ("q4_k_m", "q4_k_s", "q4_1", "q4_0", "q8_0", "q5_k_m", "q6_k", "bf16", "f16")


def hub_files(model: HubModel) -> dict[str, RemoteFile]:
    """The files that weft needs of a repository, by name. Raises ModelNotFoundError, ModelFileError."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    revision = quote(model.revision, safe="")
    listing = fetch_json(
        f"{endpoint}/api/models/{model.owner}/{model.name}/revision/{revision}?blobs=true", headers
    )
    siblings = listing.get("siblings")
    entries = [entry for entry in siblings if isinstance(entry, dict)] if isinstance(siblings, list) else []
    names = _choose(model, [str(entry.get("rfilename", "")) for entry in entries])
    base = f"{endpoint}/{model.owner}/{model.name}/resolve/{revision}"
    return {
        entry["rfilename"]: RemoteFile(f"{base}/{quote(entry['rfilename'])}", *_promise(entry), headers)
        for entry in entries
        if entry.get("rfilename") in names
    }


def _choose(model: HubModel, names: list[str]) -> set[str]:
    # Files in folders of the repository are other formats (onnx/, original/); names with ".." never get here.
    top = [
        name for name in names if name and "/" not in name and "\\" not in name and not name.startswith(".")
    ]
    ggufs = [name for name in top if name.lower().endswith(".gguf")]
    weights = [name for name in top if name.endswith(".safetensors")]
    if model.choice or (ggufs and not weights):
        return {_choose_gguf(model, ggufs)}
    if "config.json" not in top or not weights:
        raise ModelFileError(
            f"{model.local_name} has no weights that weft reads (safetensors with config.json, or GGUF): "
            f"it has {', '.join(top[:12]) or 'no files'}"
        )
    return {name for name in top if name.endswith(_FOLDER_SUFFIXES)}


def _choose_gguf(model: HubModel, ggufs: list[str]) -> str:
    wanted = [model.choice.lower()] if model.choice else list(_PREFERRED_QUANTS)
    for text in wanted:
        found = [name for name in ggufs if name.lower() == text or text in re.split(r"[.-]", name.lower())]
        if len(found) == 1:
            return found[0]
    if len(ggufs) == 1 and not model.choice:
        return ggufs[0]
    raise ModelNotFoundError(
        f"one GGUF file of {model.owner}/{model.name} was expected to match "
        f"{model.choice or 'a usual quantization'!r}: name one as OWNER/NAME:FILE of "
        f"{', '.join(ggufs[:12]) or 'none'}"
    )


def _promise(entry: dict[str, Any]) -> tuple[int | None, tuple[str, str] | None]:
    """Size and digest of a listed file, where the listing has them (large files do)."""
    large = entry.get("lfs")
    size = entry.get("size")
    digest = large.get("sha256") if isinstance(large, dict) else None
    return size if type(size) is int and size >= 0 else None, ("sha256", digest) if isinstance(
        digest, str
    ) else None
