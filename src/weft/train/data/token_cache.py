"""Tokenized data on disk: made once for a content and a tokenizer, mapped from then on.

A file of the cache is a safetensors file: tokens i32[n], trained u8[n], starts i64[documents + 1],
keep_whole u8[documents].
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from weft.errors import DataError, ModelFileError
from weft.io.cache_paths import tokens_folder
from weft.io.safetensors import open_safetensors, write_safetensors
from weft.io.tensor_source import TensorSource
from weft.io.text.chat_template import ChatTemplate
from weft.io.text.tokenizer import Tokenizer
from weft.train.data.examples import read_examples
from weft.train.data.files import DataFile
from weft.train.data.tokenize import TokenDocument, tokenize
from weft.types import Array

# Changes whenever the same files would give other tokens.
_VERSION = 2
_READ_BYTES = 8 << 20
_KINDS = {"tokens": ("I32", np.int32), "trained": ("U8", np.uint8)}
_DOCUMENT_KINDS = {"starts": ("I64", np.int64), "keep_whole": ("U8", np.uint8)}


@dataclass(frozen=True)
class TokenData:
    """Documents one after another, mapped from disk: document i is [starts[i], starts[i + 1]).

    tokens i32[n]; trained u8[n], 1 where the model is trained to write the token; starts i64; keep_whole
    u8[documents]; key: names the content. May be read from several threads.
    """

    key: str
    tokens: Array
    trained: Array
    starts: Array
    keep_whole: Array

    @property
    def num_documents(self) -> int:
        return len(self.starts) - 1


def load_tokens(
    files: Sequence[DataFile], tokenizer: Tokenizer, template: ChatTemplate | None, mask_prompt: bool
) -> TokenData:
    """The documents of `files`, from the cache where they were tokenized before.

    Raises DataError for what the files hold, OSError when the cache cannot be written.
    """
    key = content_key(files, tokenizer, template, mask_prompt)
    if (found := open_tokens(key)) is not None:
        return found
    documents = (
        document
        for file in files
        for document in tokenize(read_examples(file, template), tokenizer, mask_prompt)
    )
    _write(key, documents, ", ".join(str(file.path) for file in files[:4]))
    made = open_tokens(key)
    assert made is not None
    return made


def open_tokens(key: str) -> TokenData | None:
    """The data in the cache under `key`, or None where there is none, or a damaged file."""
    try:
        file = open_safetensors(_path(key))
        arrays = {
            name: np.frombuffer(file.tensors[name].data, dtype)
            for name, (_, dtype) in (_KINDS | _DOCUMENT_KINDS).items()
        }
    except (LookupError, ModelFileError):
        return None
    return TokenData(key, **arrays)


def content_key(
    files: Sequence[DataFile], tokenizer: Tokenizer, template: ChatTemplate | None, mask_prompt: bool
) -> str:
    """32 hexadecimal digits for all that the tokens depend on: the files' bytes, tokenizer and template."""
    settings = [_VERSION, tokenizer.to_json(), template.source if template else None, mask_prompt]
    settings += [tokenizer.special.bos_id, list(tokenizer.special.eos_ids)]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for file in files:
        with file.open() as stream:
            digest.update(f"\0{file.format}\0{stream.seek(0, os.SEEK_END)}\0".encode())
            stream.seek(0)
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()[:32]


def _path(key: str) -> Path:
    return tokens_folder() / f"{key}.safetensors"


def _write(key: str, documents: Iterable[TokenDocument], names: str) -> None:
    """Writes the file of the cache; what does not fit in memory waits in unnamed files beside it."""
    folder = tokens_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile(dir=folder) as tokens,
        tempfile.TemporaryFile(dir=folder) as trained,
    ):
        starts, keep_whole = _spool(documents, tokens, trained)
        if starts[-1] == 0:
            raise DataError(f"Expected text to train on, got none in {names}; name files that hold some.")
        arrays = {
            "tokens": _mapped(tokens, np.int32),
            "trained": _mapped(trained, np.uint8),
            "starts": np.asarray(starts, np.int64),
            "keep_whole": np.asarray(keep_whole, np.uint8),
        }
        kinds = _KINDS | _DOCUMENT_KINDS
        sources = [
            TensorSource(name, kinds[name][0], array.shape, array.data.cast("B"))
            for name, array in arrays.items()
        ]
        write_safetensors(_path(key), sources, {"weft": "tokens"})


def _spool(
    documents: Iterable[TokenDocument], tokens: IO[bytes], trained: IO[bytes]
) -> tuple[list[int], list[bool]]:
    starts, keep_whole = [0], []
    for document in documents:
        tokens.write(document.tokens.tobytes())
        trained.write(document.trained.astype(np.uint8).tobytes())
        starts.append(starts[-1] + len(document.tokens))
        keep_whole.append(document.keep_whole)
    tokens.flush()
    trained.flush()
    return starts, keep_whole


def _mapped(file: IO[bytes], dtype: type) -> Array:
    return np.memmap(file, dtype, mode="r")
