"""Packed weights kept on disk, so that a second start maps one file instead of repacking the model.

A cache file is: magic, blobs (each at a multiple of 64 bytes), a JSON footer, a trailer that says where the
footer lies. It holds all that a start needs: weights as the kernels read them, configuration, tokenizer,
chat template. It is written under another name and renamed, so a reader sees a whole file or none; a file
that does not check is as if it were not there. WEFT_CACHE=0 turns the cache off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from weft.errors import ModelFileError, TokenizerError, WeftError
from weft.io.atomic_file import atomic_file
from weft.io.cache_paths import packed_folder
from weft.io.checkpoint import Checkpoint
from weft.io.mapped_file import MappedFile, ResidentFile
from weft.io.text.tokenizer import SpecialTokens, Tokenizer

_MAGIC = b"WEFTPK01"
_TRAILER = struct.Struct("<QQI8s")  # footer's offset, bytes, crc32, magic
_ALIGNMENT = 64
_SUFFIX = ".weft"
_MAX_FOOTER_BYTES = 64 << 20
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class PackedKey:
    """What packed weights depend on; equal keys mean equal bytes.

    `identity`: of the checkpoint. `layout`: the instruction set's panel layout. `target`: the quantization
    asked for. `version`: of the packing code.
    """

    identity: str
    layout: str
    target: str
    version: int

    @property
    def path(self) -> Path:
        text = f"{self.identity}|{self.layout}|{self.target}|{self.version}"
        return packed_folder() / (hashlib.sha256(text.encode()).hexdigest()[:32] + _SUFFIX)


@dataclass(frozen=True)
class PackedEntry:
    """A packed weight or vector: what describes it, and its bytes in the map."""

    header: dict[str, Any]
    data: memoryview


@dataclass
class PackedModel:
    """A model as the cache holds it. May be read from several threads."""

    config: dict[str, Any]
    generation_config: dict[str, Any]
    chat_template: str | None
    entries: Mapping[str, PackedEntry]
    special: SpecialTokens
    tokenizer_json: memoryview | str
    mapping: MappedFile
    _tokenizer: Tokenizer | None = field(default=None)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, built on the first call. Raises TokenizerError, also when the model has none."""
        if isinstance(self.tokenizer_json, str):
            raise TokenizerError(self.tokenizer_json)
        if self._tokenizer is None:
            from tokenizers import Tokenizer as RawTokenizer

            from weft.io.text.tokenizer_build import tokenizer_errors

            with tokenizer_errors(str(self.mapping.path)):
                raw = RawTokenizer.from_buffer(bytes(self.tokenizer_json))
                self._tokenizer = Tokenizer(raw, self.special)
        return self._tokenizer


def cache_is_on() -> bool:
    """Whether packed weights are kept: unless WEFT_CACHE says 0."""
    return os.environ.get("WEFT_CACHE", "1") not in ("0", "off", "no", "false")


def open_packed(key: PackedKey) -> PackedModel | None:
    """The cached model of `key`, or None when there is none that checks (it is then to be packed again)."""
    if not cache_is_on() or not key.path.is_file():
        return None
    try:
        return _read(key)
    except (WeftError, ValueError, KeyError, TypeError, OSError):
        # Cut short, damaged, or of another version: nothing that the user must know of.
        return None


def write_packed(
    key: PackedKey, checkpoint: Checkpoint, entries: Iterable[tuple[str, dict[str, Any], Any]]
) -> Path | None:
    """Keep packed weights: (name, header of plain values, buffer of bytes) each, taken one after another.

    Returns the file, or None with one warning when it cannot be written (full disk, no permission): the
    model runs without. Writers at the same time do not disturb each other.
    """
    if not cache_is_on():
        return None
    try:
        key.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(key.path) as file:
            _write(file, key, checkpoint, entries)
        _drop_stale(key, checkpoint)
    except OSError as error:
        warnings.warn(
            f"packed weights cannot be kept in {key.path.parent} ({error.strerror or error}): starts stay "
            "slow. Make room, set WEFT_HOME, or turn the cache off with WEFT_CACHE=0",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return key.path


def packed_files_of(model: Path) -> list[Path]:
    """The cache files that were packed from the model at `model`, or from files in that folder."""
    place = model.resolve()
    sources = [(path, Path(footer["source"])) for path, footer in _footers()]
    return [path for path, source in sources if source == place or place in source.parents]


def _write(
    file: BinaryIO, key: PackedKey, checkpoint: Checkpoint, entries: Iterable[tuple[str, dict[str, Any], Any]]
) -> None:
    file.write(_MAGIC)
    listed = {name: {"header": header, **_put(file, data)} for name, header, data in entries}
    footer = {
        "key": [key.identity, key.layout, key.target, key.version],
        "source": str(checkpoint.path.resolve()),
        "config": checkpoint.config,
        "generation_config": checkpoint.generation_config,
        "chat_template": checkpoint.chat_template,
        "entries": listed,
        **_put_tokenizer(file, checkpoint),
    }
    encoded = json.dumps(footer, separators=(",", ":")).encode()
    offset = file.tell()
    file.write(encoded)
    file.write(_TRAILER.pack(offset, len(encoded), zlib.crc32(encoded), _MAGIC))


def _put_tokenizer(file: BinaryIO, checkpoint: Checkpoint) -> dict[str, Any]:
    """The footer's part about the tokenizer: where it lies, or what is wrong with it."""
    try:
        tokenizer = checkpoint.tokenizer()
    except TokenizerError as error:
        # A model without one can still be run on token ids.
        return {"special": [None, [], None], _TOKENIZER: str(error)}
    special = tokenizer.special
    place = _put(file, tokenizer.to_json().encode())
    return {"special": [special.bos_id, list(special.eos_ids), special.pad_id], _TOKENIZER: place}


def _drop_stale(key: PackedKey, checkpoint: Checkpoint) -> None:
    """Remove what nobody will open again, so that the cache does not grow with every model that was tried.

    That is what was packed from files that are gone, from this model as it was before it changed, and by
    older packing code.
    """
    source = str(checkpoint.path.resolve())
    for path, footer in _footers():
        identity, _, _, version = footer["key"]
        changed = footer["source"] == source and identity != key.identity
        if changed or version < key.version or not Path(footer["source"]).exists():
            path.unlink(missing_ok=True)


def _footers() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every cache file that can be read, and its footer."""
    for path in sorted(packed_folder().glob(f"*{_SUFFIX}")):
        with contextlib.suppress(WeftError, ValueError, KeyError, TypeError, OSError):
            footer = _footer(MappedFile(path))
            if isinstance(footer["source"], str) and len(footer["key"]) == len(fields(PackedKey)):
                yield path, footer


def _put(file: BinaryIO, data: Any) -> dict[str, int]:
    """Write a blob at the next aligned offset; where it lies."""
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    offset = file.tell()
    view = memoryview(data).cast("B")
    file.write(view)
    return {"offset": offset, "size": view.nbytes}


def _footer(mapping: MappedFile) -> dict[str, Any]:
    """The footer, whose checksum also vouches for the file's length. Raises ModelFileError, ValueError."""
    trailer = mapping.bytes_at(mapping.size - _TRAILER.size, _TRAILER.size)
    offset, size, checksum, magic = _TRAILER.unpack(trailer)
    if magic != _MAGIC or size > _MAX_FOOTER_BYTES or offset + size + _TRAILER.size != mapping.size:
        raise ModelFileError(f"{mapping.path} is not a whole cache file")
    encoded = mapping.bytes_at(offset, size)
    if zlib.crc32(encoded) != checksum:
        raise ModelFileError(f"{mapping.path} is damaged")
    footer: dict[str, Any] = json.loads(bytes(encoded))
    return footer


def _read(key: PackedKey) -> PackedModel:
    mapping = ResidentFile(key.path)
    footer = _footer(mapping)
    if footer["key"] != [key.identity, key.layout, key.target, key.version]:
        raise ModelFileError(f"{key.path} is of another model")
    bos_id, eos_ids, pad_id = footer["special"]
    entries = {
        name: PackedEntry(entry["header"], mapping.bytes_at(entry["offset"], entry["size"]))
        for name, entry in footer["entries"].items()
    }
    place = footer[_TOKENIZER]
    tokenizer = place if isinstance(place, str) else mapping.bytes_at(place["offset"], place["size"])
    return PackedModel(
        config=footer["config"],
        generation_config=footer["generation_config"],
        chat_template=footer["chat_template"],
        entries=entries,
        special=SpecialTokens(bos_id, tuple(eos_ids), pad_id),
        tokenizer_json=tokenizer,
        mapping=mapping,
    )
