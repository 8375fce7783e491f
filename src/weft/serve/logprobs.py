"""From what a step found to the log-probabilities of a request."""

from __future__ import annotations

from weft.serve.runner import Sampled, Scored
from weft.serve.sequence import Sequence


def add_logprobs(sequence: Sequence, sampled: Sampled, row: int) -> None:
    """Adds those of the token drawn in `row`, and of as many others as the request asks for."""
    sequence.logprobs.append(float(sampled.logprobs[row]))
    if sequence.params.num_alternatives:
        sequence.alternatives.append(alternatives(sequence, sampled, row))


def alternatives(sequence: Sequence, drawn: Sampled | Scored, row: int) -> dict[int, float]:
    """As many of the likeliest tokens of a row as the request asks for."""
    count = sequence.params.num_alternatives
    assert drawn.top_tokens is not None and drawn.top_logprobs is not None
    tokens = drawn.top_tokens[row, :count].tolist()
    return dict(zip(tokens, drawn.top_logprobs[row, :count].tolist(), strict=True))
