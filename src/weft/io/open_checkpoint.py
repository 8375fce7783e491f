"""Opens a model's files, whatever their format, as a `Checkpoint`.

`open_checkpoint` takes a GGUF file, a Hugging Face folder, or a llama2.c model; names of models are
resolved to such paths by `weft.io.fetch.sources`.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.checkpoint import Checkpoint

_FINGERPRINT_BYTES = 1 << 16
# Files of a folder that what is computed from it depends on.
_FINGERPRINT_SUFFIXES = (".json", ".safetensors", ".gguf", ".bin", ".model", ".txt", ".jinja", ".bpe")


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The model at `path`: a .gguf file, a folder, a .safetensors file of a folder, or llama2.c's .bin file.

    Weights are mapped, not read. Raises ModelNotFoundError, ModelFileError.
    """
    place = model_file(Path(path))
    if place.is_dir():
        from weft.io.hf_folder import open_folder

        return open_folder(place, fingerprint(place))
    if place.suffix == ".bin":
        return _open_llama2c(place)
    return _open_gguf(place)


def model_file(path: Path) -> Path:
    """The file or folder of the model that `path` points at. Raises ModelNotFoundError, ModelFileError."""
    if path.is_file():
        return (
            path.parent if path.suffix == ".safetensors" and (path.parent / "config.json").is_file() else path
        )
    if not path.is_dir():
        if path.exists():
            raise ModelFileError(f"{path} is neither a file nor a folder: copy the model into one")
        raise ModelNotFoundError(f"{path} does not exist: check the path")
    if (path / "config.json").is_file():
        return path
    if (path / "final" / "config.json").is_file():
        return path / "final"  # the result of a training run
    for pattern in ("*.gguf", "*.bin"):
        found = [file for file in sorted(path.glob(pattern)) if file.name != "tokenizer.bin"]
        if len(found) > 1:
            raise ModelFileError(
                f"{path} holds several models, name one: {', '.join(file.name for file in found[:8])}"
            )
        if found:
            return found[0]
    raise ModelFileError(
        f"{path} holds no model: config.json with safetensors, or a .gguf file, was expected"
    )


def fingerprint(path: Path) -> str:
    """A name for the present state of the model's files: 32 hexadecimal digits.

    From each file's path, size, time of change and first bytes (which hold the header), so it is found
    without parsing anything. Raises ModelFileError when a file cannot be read.
    """
    place = model_file(path).resolve()
    if place.is_dir():
        files = sorted(
            file for file in place.iterdir() if file.suffix in _FINGERPRINT_SUFFIXES and file.is_file()
        )
    else:
        companion = place.with_name("tokenizer.bin")
        files = [place, companion] if place.suffix == ".bin" and companion.is_file() else [place]
    digest = hashlib.sha256(str(place).encode("utf-8", "surrogateescape"))
    try:
        for file in files:
            status = file.stat()
            digest.update(
                f"\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape")
            )
            with open(file, "rb") as opened:
                digest.update(opened.read(_FINGERPRINT_BYTES))
    except OSError as error:
        raise ModelFileError(f"{place} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:32]


def _open_gguf(path: Path) -> Checkpoint:
    from weft.io.gguf.checkpoint import gguf_tensors
    from weft.io.gguf.config import architecture_of, config_from_gguf
    from weft.io.gguf.reader import open_gguf
    from weft.io.gguf.tokenizer import tokenizer_from_gguf

    file = open_gguf(path)
    config = config_from_gguf(file)
    template = file.metadata.get("tokenizer.chat_template")
    assert file.mapping is not None
    return Checkpoint(
        path=path,
        format="gguf",
        config=config,
        tensors=gguf_tensors(file, architecture_of(file), config),
        identity=fingerprint(path),
        chat_template=template if isinstance(template, str) else None,
        load_tokenizer=partial(tokenizer_from_gguf, file),
        release=file.mapping.advise_dont_need,
    )


def _open_llama2c(path: Path) -> Checkpoint:
    from weft.io.llama2c import llama2c_tokenizer, read_llama2c
    from weft.io.mapped_file import MappedFile

    mapping = MappedFile(path)
    config, tensors = read_llama2c(mapping)
    return Checkpoint(
        path=path,
        format="llama2c",
        config=config,
        tensors=tensors,
        identity=fingerprint(path),
        load_tokenizer=partial(llama2c_tokenizer, path.with_name("tokenizer.bin"), config["vocab_size"]),
        release=mapping.advise_dont_need,
    )
