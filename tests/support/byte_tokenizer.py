"""A tokenizer of 256 bytes and two marks: known ids without files."""

from __future__ import annotations

from weft.io.text.token_bytes import byte_level_alphabet
from weft.io.text.tokenizer import SpecialTokens, Tokenizer

START, END = 256, 257


def byte_tokenizer(with_marks: bool = True, marks: tuple[str, ...] = ()) -> Tokenizer:
    """Ids are those of bytes; 256 begins a turn ("<s>"), 257 ends it ("</s>") and every document.

    marks: special tokens after these.
    """
    from tokenizers import Tokenizer as RawTokenizer
    from tokenizers import decoders, models, pre_tokenizers

    raw = RawTokenizer(models.BPE(vocab=dict(byte_level_alphabet()), merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if not with_marks:
        return Tokenizer(raw)
    raw.add_special_tokens(["<s>", "</s>", *marks])
    return Tokenizer(raw, SpecialTokens(eos_ids=(END,)))


CHAT_TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
