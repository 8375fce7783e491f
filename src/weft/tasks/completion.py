"""Answers: whole ones, pieces of one that is under way, and how they are read from a request."""

from __future__ import annotations

from dataclasses import dataclass

from weft.io.text.tokenizer import Tokenizer
from weft.serve.detokenizer import Detokenizer
from weft.serve.sequence import Sequence


@dataclass(frozen=True)
class Completion:
    """An answer. `token_ids` are its tokens, without the one that ended it; `text` ends before a stop string.

    finish_reason: "stop" (end of text, a stop token or string: `stop_reason` says which), "length"
    (max_tokens, or the context is full), "timeout", "cancelled" or "error". logprobs: natural-log probability
    of each token, where asked for; top_logprobs: for each token the likeliest ones. seed: draws the same
    answer again.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    seed: int
    stop_reason: str | int | None = None
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[dict[int, float], ...] | None = None


@dataclass(frozen=True)
class Piece:
    """What an answer grew by: its new tokens, and the text that is complete by then, which may be empty.

    finish_reason is set on the last piece alone.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[dict[int, float], ...] | None = None


class AnswerReader:
    """Reads the answer of `sequence` as it grows. For one thread at a time, while another may drive."""

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer) -> None:
        self.sequence = sequence
        self.num_read = 0
        self._texts: list[str] = []
        self._flushed = False
        # Where the engine reads the text itself, to find a stop string, its pieces are taken.
        self._own = None if sequence.detokenizer else Detokenizer(tokenizer.stream_decoder())

    def read(self) -> Piece:
        """What has come since the last call."""
        sequence = self.sequence
        finished = sequence.finished  # read first: nothing comes after it
        begin, end = self.num_read, len(sequence.output)
        token_ids = sequence.output[begin:end]
        text = self._own.push_all(token_ids) if self._own else "".join(sequence.pieces[begin:end])
        if finished and not self._flushed:
            self._flushed = True
            text += self._detokenizer.flush()
        self.num_read = end
        self._texts.append(text)
        wanted = sequence.params
        return Piece(
            text,
            tuple(token_ids),
            str(sequence.finish_reason) if finished else None,
            tuple(sequence.logprobs[begin:end]) if wanted.wants_logprobs else None,
            tuple(sequence.alternatives[begin:end]) if wanted.num_alternatives else None,
        )

    def completion(self) -> Completion:
        """The whole answer, as far as it has come; reads what is left."""
        self.read()
        sequence, end = self.sequence, self.num_read
        wanted = sequence.params
        return Completion(
            text="".join(self._texts),
            token_ids=tuple(sequence.output[:end]),
            finish_reason=str(sequence.finish_reason or "cancelled"),
            prompt_tokens=len(sequence.prompt),
            seed=sequence.seed,
            stop_reason=sequence.stop_reason,
            logprobs=tuple(sequence.logprobs[:end]) if wanted.wants_logprobs else None,
            top_logprobs=tuple(sequence.alternatives[:end]) if wanted.num_alternatives else None,
        )

    @property
    def _detokenizer(self) -> Detokenizer:
        detokenizer = self._own or self.sequence.detokenizer
        assert detokenizer is not None
        return detokenizer
