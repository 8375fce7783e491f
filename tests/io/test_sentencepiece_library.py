"""SentencePiece itself as the oracle: vocabularies trained here, read from tokenizer.model and from GGUF."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest

from tests.io.gguf_builder import ARRAY, BOOL, F32, I32, STRING, U32, ArrayOf, GgufBuilder
from tests.io.test_tokenizer import GOLDEN
from weft.io.gguf.reader import parse_gguf
from weft.io.gguf.tokenizer import tokenizer_from_gguf
from weft.io.text.hf_tokenizer import tokenizer_from_folder
from weft.io.text.tokenizer import Tokenizer

sentencepiece = pytest.importorskip("sentencepiece", reason="the sentencepiece package is not installed")


def trained(kind: str, rule: str = "identity") -> Any:
    """A processor whose vocabulary was trained on this package's own golden texts."""
    model = io.BytesIO()
    texts = [text for text in GOLDEN["texts"] if text.strip() and "\0" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type=kind, vocab_size=900,
        byte_fallback=True, character_coverage=0.99, normalization_rule_name=rule,
        remove_extra_whitespaces=False, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize(
    ("kind", "rule"), [("bpe", "identity"), ("unigram", "identity"), ("bpe", "nmt_nfkc")]
)
def test_a_model_file_equals_the_library(kind: str, rule: str, tmp_path: Path) -> None:
    library = trained(kind, rule)
    (tmp_path / "tokenizer.model").write_bytes(library.serialized_model_proto())
    check(tokenizer_from_folder(tmp_path), library)


def test_gguf_metadata_equal_the_library() -> None:
    library = trained("bpe")
    size = library.get_piece_size()
    builder = GgufBuilder().add("tokenizer.ggml.model", STRING, "llama")
    tokens = [library.id_to_piece(number) for number in range(size)]
    scores = [library.get_score(number) for number in range(size)]
    builder.add("tokenizer.ggml.tokens", ARRAY, ArrayOf(STRING, tokens))
    builder.add("tokenizer.ggml.scores", ARRAY, ArrayOf(F32, scores))
    builder.add("tokenizer.ggml.token_type", ARRAY, ArrayOf(I32, [kind_of(library, n) for n in range(size)]))
    builder.add("tokenizer.ggml.bos_token_id", U32, 1).add("tokenizer.ggml.eos_token_id", U32, 2)
    builder.add("tokenizer.ggml.add_bos_token", BOOL, False)
    check(tokenizer_from_gguf(parse_gguf(memoryview(builder.build()), "test.gguf")), library)


def kind_of(library: Any, number: int) -> int:
    """The type of a piece as GGUF numbers it."""
    if library.is_unknown(number):
        return 2
    if library.is_control(number):
        return 3
    return 6 if library.is_byte(number) else 1


def check(tokenizer: Tokenizer, library: Any) -> None:
    """The same ids for the golden texts and for random ones, and the same texts back."""
    rng = random.Random(3)
    alphabet = "".join(GOLDEN["texts"]).replace("\0", "")
    made = ["".join(rng.choices(alphabet, k=rng.randrange(1, 30))) for _ in range(200)]
    for text in [*GOLDEN["texts"], *made]:
        # The oracle ends at NUL, and reads "<s>" in a text otherwise; `tokenizers` takes the two bytes of
        # a Windows line end for one when it normalizes.
        if any(odd in text for odd in ("\0", "<", "\r\n")):
            continue
        ids = library.encode(text)
        assert tokenizer.encode(text, add_special=False, parse_special=False) == ids, repr(text)
        assert tokenizer.decode(ids) == library.decode(ids), repr(text)
