"""Imports run downward only, in Python and in C++, as docs/architecture.md draws it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "weft"
NATIVE = ROOT / "native"

# Module or folder of src/weft -> its layer. A module imports from its own folder and from lower layers.
LAYERS = {
    "errors": 0,
    "types": 0.5,
    "config": 0.5,
    "machine": 0.5,
    "ops": 1,
    "plan": 2,
    "runtime": 2.5,
    "optimizer_runtime": 2.6,
    "row_blocks": 2.6,
    "tracer": 2.6,
    "torch_runtime": 2.5,
    "io": 3,
    "models": 3.5,
    "serve": 4,
    "train": 4,
    "tasks": 5,
    "server": 6,
    "batch": 6.5,
    "cli": 7,
}
# Folder of native -> those it may include from, besides itself.
NATIVE_BELOW = {
    "base": (),
    "threads": ("base",),
    "memory": ("base",),
    "kernels": ("base",),
    # Chooses among the kernels, which know no instruction set but their own.
    "isa": ("base", "kernels"),
    "ops": ("base", "threads", "memory", "isa", "kernels"),
    "exec": ("base", "threads", "memory", "isa", "kernels", "ops"),
    "bind": ("base", "threads", "memory", "isa", "kernels", "ops", "exec"),
}


def modules() -> list[Path]:
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE
    )


def imported(path: Path) -> Iterator[str]:
    """Names of the weft modules that the file imports, relative to the package, at any depth of the code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("weft."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "weft":
                yield from (f"weft.{alias.name}" for alias in node.names if alias.name != "__version__")
            elif node.module.startswith("weft."):
                yield node.module
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import; name the module")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_from_below(path):
    part = part_of(path)
    if part == "__main__":
        return
    for name in imported(path):
        target = name.split(".")[1]
        if target in (part, "_native", "__version__"):
            continue
        assert target in LAYERS, f"{path}: {name} has no layer; give it one"
        assert LAYERS[target] < LAYERS[part], (
            f"{path} (layer {LAYERS[part]}) imports {name} of a higher layer"
        )


def test_one_module_alone_imports_the_native_core():
    for path in PACKAGE.rglob("*.py"):
        if "weft._native" in path.read_text(encoding="utf-8"):
            assert path == PACKAGE / "runtime" / "native.py"


@pytest.mark.parametrize(
    "path",
    sorted(path for path in NATIVE.rglob("*") if path.suffix in (".h", ".cc", ".inl")),
    ids=lambda path: str(path.relative_to(NATIVE)),
)
def test_a_native_file_includes_from_below(path):
    folder = path.relative_to(NATIVE).parts[0]
    for name in re.findall(r'^\s*#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
        assert (NATIVE / name).is_file(), f"{path}: {name} is not there; includes begin at native/"
        target = name.split("/")[0]
        assert target == folder or target in NATIVE_BELOW[folder], f"{path} includes {name} of a higher layer"


def test_no_file_grows_past_its_concept():
    sources = [*PACKAGE.rglob("*.py"), *(path for path in NATIVE.rglob("*") if path.is_file())]
    for path in sources:
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines < 400, f"{path} has {lines} lines; split it"
