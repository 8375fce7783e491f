"""What a tokenizer.json may not ask for: ids and growing texts that take memory without bound."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.byte_tokenizer import byte_tokenizer
from weft.errors import TokenizerError
from weft.io.text.hf_tokenizer import tokenizer_from_folder
from weft.io.text.tokenizer_limits import MAX_TOKENS, check_tokenizer_json

TENFOLD = {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * 10}
BY_PATTERN = {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "x" * 40}


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """A good tokenizer.json."""
    byte_tokenizer().save(tmp_path / "good.json")
    return json.loads((tmp_path / "good.json").read_text())


def sequence(*steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        TENFOLD,
        BY_PATTERN,
        sequence(
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ),
        sequence(
            {"type": "NFC"},
            {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ),
    ],
)
def test_normalizers_of_published_kinds_pass(content: dict[str, Any], normalizer: Any) -> None:
    check_tokenizer_json(content | {"normalizer": normalizer}, "t")


@pytest.mark.parametrize(
    ("normalizer", "message"),
    [
        (sequence(*[TENFOLD] * 9), "can by 1000: take"),
        (sequence(sequence(TENFOLD, TENFOLD), TENFOLD), "can by 1000: take"),
        (sequence(BY_PATTERN, BY_PATTERN), "can by 1681: take"),
        ({"type": "Prepend", "prepend": "x" * 5000}, "this one adds 5000"),
    ],
)
def test_normalizers_that_multiply_are_refused(
    content: dict[str, Any], normalizer: Any, message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        check_tokenizer_json(content | {"normalizer": normalizer}, "t")


@pytest.mark.parametrize("place", ["vocabulary", "added"])
def test_huge_ids_are_refused_at_once(content: dict[str, Any], place: str, tmp_path: Path) -> None:
    if place == "vocabulary":
        content["model"]["vocab"]["zz"] = 2**31
    else:
        content["added_tokens"].append(dict(content["added_tokens"][0], id=MAX_TOKENS, content="zz"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    begin = time.process_time()
    with pytest.raises(TokenizerError, match="ids below"):
        tokenizer_from_folder(tmp_path)
    assert time.process_time() - begin < 5


def test_a_vocabulary_that_cannot_spell_a_text_says_so(tmp_path: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "added_tokens": [], "model": model})
    )
    with pytest.raises(TokenizerError, match="takes any text was expected"):
        tokenizer_from_folder(tmp_path).encode("b")
