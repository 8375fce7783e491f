"""What imports pull in: nothing heavy, nothing from a higher layer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import weft.io

FOLDER = Path(weft.io.__file__).parent
ALLOWED = ("weft.io", "weft.errors", "weft.types", "weft.config", "weft.machine")


def test_readers_import_nothing_heavy() -> None:
    code = (
        "import sys, weft.io.gguf.reader, weft.io.safetensors, weft.io.checkpoint, weft.io.fetch.sources;"
        "import weft.io.packed_cache;"
        "heavy = {'numpy', 'tokenizers', 'jinja2', 'torch', 'http.client', 'ssl'} & set(sys.modules);"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_imports_stay_in_the_layer() -> None:
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                if module.split(".")[0] == "weft":
                    assert module.startswith(ALLOWED), f"{path} imports {module}"
