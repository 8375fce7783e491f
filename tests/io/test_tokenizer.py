"""Tokenizers: equal to llama.cpp's, whole characters in streams, special tokens, and what is refused."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.gguf_builder import ARRAY, BOOL, F32, I32, STRING, U32, ArrayOf, GgufBuilder
from weft.errors import TokenizerError
from weft.io.gguf.reader import GgufFile, open_gguf, parse_gguf
from weft.io.gguf.tokenizer import tokenizer_from_gguf
from weft.io.open_checkpoint import open_checkpoint
from weft.io.text.hf_tokenizer import tokenizer_from_folder
from weft.io.text.pre_tokenizers import split_rule
from weft.io.text.token_bytes import byte_level_alphabet
from weft.io.text.tokenizer import Tokenizer

GOLDEN = json.loads((Path(__file__).parent / "golden" / "llama_cpp_tokens.json").read_text())


def byte_level_gguf(**changes: Any) -> GgufFile:
    """A byte-level vocabulary: the 256 bytes, a few merges, three special tokens."""
    alphabet = {byte: character for character, byte in byte_level_alphabet().items()}
    tokens = [alphabet[byte] for byte in range(256)] + ["he", "ll", "hell", "hello", "Ġhello"]
    tokens += ["<|start|>", "<|end|>", "<tag>"]
    entries: dict[str, tuple[int, Any]] = {
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "smollm"),
        "tokenizer.ggml.tokens": (ARRAY, ArrayOf(STRING, tokens)),
        "tokenizer.ggml.token_type": (ARRAY, ArrayOf(I32, [1] * 261 + [3, 3, 4])),
        "tokenizer.ggml.merges": (ARRAY, ArrayOf(STRING, ["h e", "l l", "he ll", "hell o", "Ġ hello"])),
        "tokenizer.ggml.bos_token_id": (U32, 261),
        "tokenizer.ggml.eos_token_id": (U32, 262),
    }
    builder = GgufBuilder()
    for key, entry in (entries | changes).items():
        if entry is not None:
            builder.add(key, *entry)
    return parse_gguf(memoryview(builder.build()), "test.gguf")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_from_gguf(byte_level_gguf())


@pytest.fixture(scope="module")
def smollm2(smollm2_file: Path) -> Tokenizer:
    return open_checkpoint(smollm2_file).tokenizer()


def check_golden(tokenizer: Tokenizer, name: str) -> None:
    expected = GOLDEN[name]
    for number, text in enumerate(GOLDEN["texts"]):
        ids = expected["ids"][number]
        assert tokenizer.encode(text, add_special=False) == ids, repr(text)
        plain = expected["plain"].get(str(number), ids)
        assert tokenizer.encode(text, add_special=False, parse_special=False) == plain, repr(text)
        assert tokenizer.decode(ids, skip_special=False) == text


def test_smollm2_equals_llama_cpp(smollm2: Tokenizer) -> None:
    assert len(GOLDEN["texts"]) > 300
    check_golden(smollm2, "smollm")


def test_sentencepiece_equals_llama_cpp(stories_file: Path) -> None:
    tokenizer = open_checkpoint(stories_file).tokenizer()
    for number, text in enumerate(GOLDEN["texts"]):
        assert tokenizer.encode(text, add_special=False) == GOLDEN["llama"]["ids"][number], repr(text)


@pytest.mark.parametrize("name", GOLDEN["digests"])
def test_other_pre_tokenizers_equal_llama_cpp(name: str, smollm2_file: Path) -> None:
    file = open_gguf(smollm2_file)
    other = GgufFile("test", 3, file.metadata | {"tokenizer.ggml.pre": name}, {}, 0)
    tokenizer = tokenizer_from_gguf(other)
    digest = hashlib.sha256()
    for text in GOLDEN["texts"]:
        both = [tokenizer.encode(text, add_special=False, parse_special=parse) for parse in (True, False)]
        digest.update(json.dumps(both).encode())
    assert digest.hexdigest() == GOLDEN["digests"][name]


def test_encodes_and_decodes(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("hello hello") == [259, 260]
    assert tokenizer.decode([259, 260]) == "hello hello"
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""
    assert tokenizer.vocab_size == 264 and (tokenizer.bos_id, tokenizer.eos_ids) == (261, (262,))


def test_special_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<|start|>hello<tag>") == [261, 259, 263]
    plain = tokenizer.encode("<|start|>hello", parse_special=False)
    assert 261 not in plain and tokenizer.decode(plain) == "<|start|>hello"
    assert tokenizer.decode([261, 259, 262]) == "hello"
    assert tokenizer.decode([261, 259, 262], skip_special=False) == "<|start|>hello<|end|>"
    assert tokenizer.is_special(261) and not tokenizer.is_special(263) and not tokenizer.is_special(10**9)


def test_start_and_end_tokens_as_the_file_wants_them() -> None:
    file = byte_level_gguf(**{
        "tokenizer.ggml.add_bos_token": (BOOL, True), "tokenizer.ggml.add_eos_token": (BOOL, True),
    })  # fmt: skip
    tokenizer = tokenizer_from_gguf(file)
    assert tokenizer.encode("hello") == [261, 259, 262]
    assert tokenizer.encode("hello", add_special=False) == [259]


def test_ids_that_do_not_exist_are_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([10**6, 2**31 - 1, -1, 2**70, 259]) == "hello"


def test_invalid_unicode_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="valid Unicode"):
        tokenizer.encode("a\ud800b")


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    tokenizer = _shared()
    ids = tokenizer.encode(text, parse_special=False)
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream_decoder()
    assert "".join([stream.push(number) for number in ids]) + stream.flush() == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 263)))
def test_streams_equal_decoding_whatever_the_ids(ids: list[int]) -> None:
    tokenizer = _shared()
    stream = tokenizer.stream_decoder(continued=False)
    pieces = [stream.push(number) for number in ids]
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)
    complete = b"".join(tokenizer.token_bytes(n) for n in ids if not tokenizer.is_special(n))
    assert tokenizer.decode(ids) == complete.decode("utf-8", "replace")


def _shared() -> Tokenizer:
    if "tokenizer" not in _kept:
        _kept["tokenizer"] = tokenizer_from_gguf(byte_level_gguf())
    return _kept["tokenizer"]


_kept: dict[str, Tokenizer] = {}


def test_streams_never_print_half_a_character(smollm2: Tokenizer) -> None:
    text = "naïve 你好 👩‍👩‍👧‍👦 🇩🇪 ᠠ \U0001f9d1\u200d\U0001f4bb ok"
    ids = smollm2.encode(text)
    assert len(ids) > 30
    stream = smollm2.stream_decoder()
    pieces = [stream.push(number) for number in ids]
    assert "".join(pieces) == text and stream.flush() == "" and not any("\ufffd" in piece for piece in pieces)


def test_a_stream_that_ends_in_the_middle(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream_decoder()
    ids = tokenizer.encode("é")
    assert stream.push(ids[0]) == "" and stream.flush() == "\ufffd"


def test_a_stream_after_a_prompt_keeps_its_first_blank(stories_file: Path) -> None:
    tokenizer = open_checkpoint(stories_file).tokenizer()
    ids = tokenizer.encode("upon a", add_special=False)
    assert tokenizer.decode(ids) == "upon a"
    assert "".join(tokenizer.stream_decoder().push(number) for number in ids) == " upon a"


def test_decoding_agrees_with_the_library(smollm2: Tokenizer, stories_file: Path) -> None:
    rng = random.Random(0)
    for tokenizer in (smollm2, open_checkpoint(stories_file).tokenizer()):
        for text in rng.sample(GOLDEN["texts"], 100):
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids) == tokenizer._raw.decode(ids, skip_special_tokens=True)


def test_a_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"bos_token": "<|start|>", "eos_token": {"content": "<|end|>"}}'
    )
    again = tokenizer_from_folder(tmp_path)
    assert again.special == tokenizer.special
    for text in GOLDEN["texts"]:
        assert again.encode(text) == tokenizer.encode(text)


def test_folders_with_vocabulary_and_merges(tmp_path: Path, tokenizer: Tokenizer) -> None:
    vocabulary = {tokenizer.token_of(number): number for number in range(261)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"<|endoftext|>": 261}))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\nh e\nl l\nhe ll\nhell o\nĠ hello\n", encoding="utf-8"
    )
    read = tokenizer_from_folder(tmp_path, {"eos_token_id": 261})
    assert read.encode("hello hello<|endoftext|>") == [259, 260, 261] and read.eos_ids == (261,)
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 2**40}))
    with pytest.raises(TokenizerError, match="token ids"):
        tokenizer_from_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.model": None}, "carries no tokenizer"),
        ({"tokenizer.ggml.model": (STRING, "rwkv")}, "of kind 'rwkv'"),
        ({"tokenizer.ggml.model": (U32, 3)}, "of kind '3'"),
        ({"tokenizer.ggml.pre": (STRING, "unheard-of")}, "'unheard-of', weft knows"),
        ({"tokenizer.ggml.token_type": (ARRAY, ArrayOf(I32, [1]))}, "as many types"),
        ({"tokenizer.ggml.tokens": (ARRAY, ArrayOf(I32, [1]))}, "array of strings|cannot be built"),
        ({"tokenizer.ggml.merges": None}, "array of strings|cannot be built"),
        ({"tokenizer.ggml.model": (STRING, "llama")}, "needs a score for each"),
    ],
)
def test_tokenizers_that_lie_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TokenizerError, ValueError), match=message):
        tokenizer_from_gguf(byte_level_gguf(**changes))


def test_odd_vocabularies_are_survived() -> None:
    odd = byte_level_gguf(**{
        "tokenizer.ggml.tokens": (ARRAY, ArrayOf(STRING, ["a", "", "", "a", "b", "ab", b"\xff\xfe"])),
        "tokenizer.ggml.token_type": None,
        "tokenizer.ggml.merges": (ARRAY, ArrayOf(STRING, ["a b", "x y", "", " ", "a", "b a", " a b"])),
        "tokenizer.ggml.bos_token_id": (U32, 2**31),
        "tokenizer.ggml.eos_token_id": (BOOL, True),
        "tokenizer.ggml.scores": (ARRAY, ArrayOf(F32, [float("nan")] * 7)),
    })  # fmt: skip
    tokenizer = tokenizer_from_gguf(odd)
    assert tokenizer.encode("ab") == [5] and tokenizer.bos_id is None and tokenizer.eos_ids == ()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"model": {"type": "BPE"}}', b"\xff" * 100, b"{" * 10000]
)
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match="cannot be built"):
        tokenizer_from_folder(tmp_path)


def test_every_rule_builds() -> None:
    from weft.io.text.pre_tokenizers import _RULES, build_pre_tokenizer

    for name in _RULES:
        pieces = build_pre_tokenizer(split_rule(name)).pre_tokenize_str("Hello, 你好 12345's\n\n  x")
        alphabet = byte_level_alphabet()
        joined = bytes(alphabet[character] for piece, _ in pieces for character in piece)
        assert joined.decode() == "Hello, 你好 12345's\n\n  x"
