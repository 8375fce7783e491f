"""What the engine asks of a model: one step over the rows of many requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from weft.types import Array

Inputs = Mapping[str, Array]
"""The inputs of a step by name; see `weft.serve.batch.Batch` and `weft.serve.sampler.Sampler`."""


@dataclass(frozen=True)
class Sampled:
    """What a step drew: for each output row its token, and where wanted log-probabilities.

    tokens i32[outputs]; logprobs f32[outputs]; top_tokens i32 and top_logprobs f32 [outputs, alternatives],
    the likeliest first.
    """

    tokens: Array
    logprobs: Array
    top_tokens: Array
    top_logprobs: Array


@dataclass(frozen=True)
class Scored:
    """What a step found of given tokens: their log-probabilities f32[outputs], and where wanted others'.

    top_tokens i32 and top_logprobs f32 [outputs, alternatives], the likeliest first.
    """

    logprobs: Array
    top_tokens: Array | None = None
    top_logprobs: Array | None = None


class Runner(Protocol):
    """A model that runs steps; a plan on a team of threads, or a fake one in tests."""

    @property
    def chains(self) -> bool:
        """Whether it can run several steps in one call now."""

    def generate(self, inputs: Inputs) -> Sampled:
        """Computes the rows and draws a token for each output row."""

    def generate_chain(self, inputs: Inputs, num_steps: int, ends: Collection[int]) -> Sampled:
        """Up to `num_steps` steps, each with the tokens that the one before drew; those of `ends` end it.

        `inputs` hold the rows of all steps, those of the first first, but the tokens of the first alone.
        """

    def score(self, inputs: Inputs) -> Scored:
        """Computes the rows; log-probabilities of `targets`, and of others with the sampler's inputs."""

    def copy_block(self, source: int, target: int) -> None:
        """Copies one block of the KV cache to another."""

    def close(self) -> None:
        """Gives back threads and memory."""
