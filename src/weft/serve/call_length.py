"""How many steps run in one call of the runner, each with the tokens that the one before drew.

Between two calls the engine's own code runs, from caches that the weights have swept: for a small model
that is a twentieth of a step. Within a call nobody can join, leave or be heard, so a call stays short.
"""

from __future__ import annotations

from collections.abc import Sequence as List

from weft.serve.sequence import Sequence

_LONGEST_CALL_S = 0.0125  # seconds that a request which has just come may wait for those that run
_MOST_STEPS = 8  # more bring next to nothing, and hold blocks of the cache before they are needed


class CallLength:
    """Chooses the steps of each call: twice as many as before, until a guess at the next tokens comes up.

    Where a text begins to repeat itself is seen between calls alone, and one place is seldom the only one.
    """

    def __init__(self) -> None:
        self._most = 1

    def may_be_several(self, sequences: List[Sequence], step_seconds: float) -> bool:
        """Whether the decoding `sequences` can take several steps of `step_seconds` in a call."""
        return 2 * step_seconds <= _LONGEST_CALL_S and all(map(_goes_on_unseen, sequences))

    def steps(self, sequences: List[Sequence], step_seconds: float) -> int:
        """How many steps of `step_seconds` the decoding `sequences` take now; none of them guesses."""
        most = self._most
        self._most = min(2 * most, _MOST_STEPS)
        count = min(most, int(_LONGEST_CALL_S / step_seconds))
        if count < 2 or not self.may_be_several(sequences, step_seconds):
            return 1
        return min(count, *(sequence.max_length - sequence.num_tokens for sequence in sequences))

    def note_guess(self) -> None:
        """Takes note that somebody guesses: others may soon."""
        self._most = 1


def common_ends(sequences: List[Sequence]) -> frozenset[int]:
    """Tokens that end one of `sequences`."""
    return frozenset().union(*(sequence.end_ids for sequence in sequences))


def _goes_on_unseen(sequence: Sequence) -> bool:
    """Whether a step of `sequence` needs nothing of the one before but its token."""
    return sequence.matcher is None and not sequence.params.penalizes
