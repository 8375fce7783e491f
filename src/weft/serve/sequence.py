"""A request as the engine sees it: its tokens, its blocks, and how far it has come."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING

import numpy as np

from weft.serve.sampling import SamplingParams
from weft.types import Array

if TYPE_CHECKING:
    from weft.serve.detokenizer import Detokenizer
    from weft.serve.matchers import Matcher
    from weft.serve.prompt_lookup import PromptLookup


class Purpose(StrEnum):
    """What a request wants of the model: new tokens, or the log-probabilities of its own."""

    GENERATE = "generate"
    SCORE = "score"


class Status(Enum):
    """Where a request is on its way through the engine."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"  # end of text, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    TIMEOUT = "timeout"  # its time was over; what had come by then is the answer
    CANCELLED = "cancelled"
    ERROR = "error"


class Sequence:
    """State of one request. The thread that drives the engine changes it; others read.

    `known` i32[num_known] are the tokens to be computed from the prompt on (after a preemption, of the answer
    too); `output` are the tokens answered so far. The cache holds the first `num_computed` tokens.
    """

    __slots__ = (
        "_num_gathered",
        "_tokens",
        "adapter",
        "alternatives",
        "block_keys",
        "blocks",
        "cancel_wanted",
        "deadline",
        "detokenizer",
        "end_ids",
        "error",
        "finish_reason",
        "known",
        "logprobs",
        "lookup",
        "matcher",
        "max_length",
        "num_computed",
        "num_keyed",
        "num_preemptions",
        "num_reused",
        "number",
        "order",
        "output",
        "params",
        "pieces",
        "prompt",
        "purpose",
        "scores",
        "seat",
        "seed",
        "status",
        "stop_reason",
        "stream",
    )

    def __init__(
        self,
        prompt: Array,
        params: SamplingParams,
        *,
        purpose: Purpose = Purpose.GENERATE,
        max_length: int,
        seed: int = 0,
        stream: int = 0,
        end_ids: frozenset[int] = frozenset(),
        detokenizer: Detokenizer | None = None,
        adapter: int = 0,
        matcher: Matcher | None = None,
    ) -> None:
        self.prompt: Array = np.ascontiguousarray(prompt, dtype=np.int32)
        self.params = params
        self.purpose = purpose
        self.max_length = max_length  # of prompt and answer together
        self.seed = seed
        self.stream = stream
        self.end_ids = end_ids
        self.adapter = adapter  # its number in the model's bank; 0 is none
        self.detokenizer = detokenizer  # where the engine must read the text, to find a stop string
        self.matcher = matcher  # how far the answer has followed its constraint, where it has one
        self.pieces: list[str] = []  # text that it has read so far
        self.number = -1  # order of arrival
        self.order = (params.priority, -1)  # smaller ones are served first
        self.deadline: float | None = None  # by the engine's clock
        self.status = Status.WAITING
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None
        self.error: BaseException | None = None
        self.cancel_wanted = False
        self.known = self.prompt
        self.lookup: PromptLookup | None = None  # guesses at the next tokens, once some were wanted
        self._tokens: Array = self.prompt
        self._num_gathered = len(self.prompt)  # tokens that are in _tokens
        self.output: list[int] = []
        self.logprobs: list[float] = []
        self.alternatives: list[dict[int, float]] = []
        self.scores: list[Array] = []
        self.num_computed = 0
        self.num_preemptions = 0
        self.num_reused = 0  # tokens that the cache held when it was last admitted
        self.blocks: list[int] = []
        self.block_keys: list[bytes] = []  # of the first blocks of its text; see `kv_blocks.extend_keys`
        self.num_keyed = 0  # of its blocks, those that others may find
        self.seat = -1

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.prompt) + len(self.output)

    def tokens(self) -> Array:
        """Prompt and answer so far, i32[num_tokens]; a view into memory that grows by doubling."""
        length, gathered = self.num_tokens, self._num_gathered
        if length > len(self._tokens):
            grown = np.zeros(2 * length, np.int32)
            grown[:gathered] = self._tokens[:gathered]
            self._tokens = grown
        if length > gathered:
            self._tokens[gathered:length] = self.output[gathered - length :]
            self._num_gathered = length
        return self._tokens[:length]

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.status is Status.FINISHED

    def forget_computed(self) -> None:
        """Back to the state of a request that has not begun, but for its answer so far."""
        self.known = self.tokens().copy()
        self.num_computed = self.num_keyed = 0
        self.num_preemptions += 1
        if self.purpose is Purpose.SCORE:
            self.scores.clear()
            self.alternatives.clear()
        self.status = Status.WAITING
