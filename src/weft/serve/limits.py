"""The sizes that an engine is made for, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass

from weft.types import BLOCK_TOKENS


@dataclass(frozen=True)
class EngineLimits:
    """Sizes that an engine is made for.

    max_context: tokens of one request. num_blocks: of the KV cache. max_rows: of one step;
    max_score_rows: of one that scores. max_running: requests that hold a seat at once. block_tokens: of a
    block; where they are more than max_context, a text is one block whatever its length, as it is where a
    model keeps a state of it.
    """

    max_context: int
    num_blocks: int
    max_rows: int = 512
    max_score_rows: int = 64
    max_running: int = 256
    draft_max: int = 0
    block_tokens: int = BLOCK_TOKENS

    @property
    def max_length(self) -> int:
        """Most tokens that one request can have: of the context, and of the whole cache."""
        return min(self.max_context, self.num_blocks * self.block_tokens)

    @property
    def max_seats(self) -> int:
        """Most requests that run at once: their answers leave half of a step's rows to prompts."""
        return min(self.max_running, max(1, self.max_rows // 2))

    @property
    def max_outputs(self) -> int:
        """Most tokens that a step draws."""
        return min(self.max_rows, max(self.max_running, self.draft_max and 1 + self.draft_max))


@dataclass
class EngineStatistics:
    """Counts since the engine was made."""

    num_steps: int = 0
    num_rows: int = 0
    num_tokens: int = 0  # answered
    num_finished: int = 0
    num_drafted: int = 0  # tokens guessed ahead
    num_accepted: int = 0  # of these, that were right
