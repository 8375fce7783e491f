"""Constraints made ready for a tokenizer, and the state of each answer that follows one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from weft.errors import ConfigError, UnsupportedError, WeftError
from weft.io.text.tokenizer import Tokenizer
from weft.serve.constraint import Constraint, constraint_error, new_matcher

_MOST_KEPT = 64


class Matcher:
    """How far an answer has followed its constraint. The thread that writes masks changes it.

    handle: llguidance's own. error: why it cannot go on, once it cannot. num_followed: tokens of the draft
    under way after which there are masks.
    """

    __slots__ = ("constraint", "error", "handle", "num_followed")

    def __init__(self, constraint: Constraint, handle: Any) -> None:
        self.constraint = constraint
        self.handle = handle
        self.error: WeftError | None = None
        self.num_followed = 0

    def allowed(self, draft: list[int]) -> list[int]:
        """`draft` up to the first token that the constraint does not let come."""
        return draft[: self.handle.validate_tokens(draft)]

    def look_for_error(self) -> bool:
        """Whether it cannot go on: a constraint that takes more than the limits, or a fault."""
        if self.error is None and self.handle.is_error():
            self.error = constraint_error(self.constraint, self.handle.get_error())
        return self.error is not None


class MatcherFactory:
    """Makes matchers over one tokenizer. Any thread may use it; the first matcher takes seconds.

    The constraints used last are kept ready. end_ids: tokens that end a text.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary_size: int, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._end_ids = sorted(end_ids)
        self._lock = threading.Lock()
        self._vocabulary: Any = None
        self._ready: OrderedDict[Constraint, Any] = OrderedDict()

    def new(self, constraint: Constraint) -> Matcher:
        """A matcher at the begin of an answer. Raises ConfigError, UnsupportedError."""
        with self._lock:
            handle = self._ready.get(constraint)
            if handle is None:
                handle = self._ready[constraint] = self._prepare(constraint)
            self._ready.move_to_end(constraint)
            while len(self._ready) > _MOST_KEPT:
                self._ready.popitem(last=False)
            return Matcher(constraint, handle.deep_copy())

    def _prepare(self, constraint: Constraint) -> Any:
        constraint.check()
        if self._vocabulary is None:
            self._vocabulary = self._read_vocabulary()
        handle = new_matcher(self._vocabulary, constraint.source())
        for state in (handle, _after_a_token(handle)):
            if state.is_error():
                raise constraint_error(constraint, state.get_error())
        return handle

    def _read_vocabulary(self) -> Any:
        if not self._end_ids:
            raise ConfigError(
                "Expected a model with a token that ends a text, got one without; constraints need it to end "
                "their answers: choose another model."
            )
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
        except ImportError as error:
            raise UnsupportedError(
                f"Expected the package llguidance for constraints on answers, got {error}; install it."
            ) from error
        words = _Vocabulary(self._tokenizer, self._vocabulary_size, self._end_ids)
        return LLTokenizer(TokenizerWrapper(words), n_vocab=self._vocabulary_size, eos_token=self._end_ids)


def _after_a_token(handle: Any) -> Any:
    """A copy of `handle` after the first token that it allows, if any.

    The first mask is the dearest: no step has to wait for it then. One that took too much is cut short
    without a word, and only the token after it fails.
    """
    copy = handle.deep_copy()
    words = np.frombuffer(handle.compute_bitmask(), np.uint8)
    if len(allowed := words.nonzero()[0]):
        byte = int(words[allowed[0]])
        copy.consume_token(int(allowed[0]) * 8 + (byte & -byte).bit_length() - 1)
    return copy


class _Vocabulary:
    """The tokenizer as llguidance asks for it."""

    def __init__(self, tokenizer: Tokenizer, size: int, end_ids: list[int]) -> None:
        self.eos_token_id = end_ids[0]
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [tokenizer.token_bytes(number) for number in range(size)]
        self.special_token_ids = [number for number in range(size) if tokenizer.is_special(number)]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        plain = text.decode() if isinstance(text, bytes) else text
        return self._tokenizer.encode(plain, add_special=False, parse_special=False)
