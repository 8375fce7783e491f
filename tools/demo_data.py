"""Write training data that every machine has, for `make demo`: sources of Python's own library.

python tools/demo_data.py FOLDER      FOLDER/train.jsonl from asyncio, FOLDER/valid.jsonl from other modules
"""

from __future__ import annotations

import asyncio
import heapq
import json
import sys
from pathlib import Path

LIBRARY = Path(asyncio.__file__).parent.parent
SPLITS = {
    "train": sorted((LIBRARY / "asyncio").glob("*.py")),
    "valid": [Path(heapq.__file__)],
}


def main() -> None:
    """Write both splits, a source file a line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in SPLITS.items():
        lines = [json.dumps({"text": file.read_text(encoding="utf-8")}) for file in files]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
