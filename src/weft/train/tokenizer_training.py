"""Trains a byte-level BPE tokenizer on the texts of a run: Sennrich et al., 2016; Radford et al., 2019."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from weft.errors import DataError
from weft.io.text.chat_template import ChatTemplate
from weft.io.text.tokenizer import SpecialTokens, Tokenizer
from weft.train.data.examples import read_examples
from weft.train.data.files import DataFile
from weft.train.data.text_parts import text_parts

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer

END_OF_TEXT = "<|endoftext|>"
MIN_VOCABULARY = 257  # every byte, and the mark of the end


def train_tokenizer(files: Iterable[DataFile], vocabulary_size: int) -> Tokenizer:
    """A tokenizer of at most `vocabulary_size` tokens for the texts of `files`; any text can be encoded.

    The end of a document is token 0, "<|endoftext|>". Raises DataError.
    """
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocabulary_size < MIN_VOCABULARY:
        raise DataError(
            f"Expected a vocabulary of at least {MIN_VOCABULARY} tokens, got {vocabulary_size}; raise it."
        )
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    no_template: ChatTemplate | None = None
    examples = (example for file in files for example in read_examples(file, no_template))
    texts = (part for example in examples for part in text_parts(example.text))
    raw.train_from_iterator(texts, trainer)
    return _with_end(raw)


def load_own_tokenizer(content: str) -> Tokenizer:
    """A tokenizer that `train_tokenizer` made, from its tokenizer.json."""
    from tokenizers import Tokenizer as RawTokenizer

    return _with_end(RawTokenizer.from_str(content))


def _with_end(raw: RawTokenizer) -> Tokenizer:
    end = raw.token_to_id(END_OF_TEXT)
    return Tokenizer(raw, SpecialTokens(eos_ids=() if end is None else (end,)))
