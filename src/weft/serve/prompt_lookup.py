"""Guesses at what comes next, without a second model: what followed when the same tokens came before.

Prompt look-up (Saxena, 2023; Yang et al., 2023, Inference with reference): an answer that edits or extracts
from a text repeats long parts of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from weft.types import Array

_LONGEST_MATCH = 16  # tokens that are compared when a new place is looked for; following it counts on
# How often the next token repeats that of a place, by the binary digits of the number of tokens that agree
# before it (0, 1, 2 to 3, 4 to 7, ... and from 32 on): where each request begins.
_FIRST_RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
_LEARNING_RATE = 1 / 6


class PromptLookup:
    """Follows one request's text along the latest of the earlier places that agree with its end the longest.

    Each token that comes is compared with the one that was guessed, proposed or not, so that the rates of
    guesses that come true are known even while none is proposed.
    """

    def __init__(self) -> None:
        self._num_seen = 0
        self._source = 0  # the place's next token; 0 for none
        self._num_agreeing = 0  # tokens before it that are those at the end of the text
        self._rates = list(_FIRST_RATES)

    def follow(self, tokens: Array) -> None:
        """Takes note of what came since the last call; `tokens` i32[n] is the whole text."""
        if self._source:
            for token in tokens[self._num_seen :].tolist():
                self._compare(int(tokens[self._source]) == token)
                if not self._source:
                    break
        self._num_seen = len(tokens)
        if not self._source:
            self._find(tokens)

    def draft(self, tokens: Array, length: int) -> list[int]:
        """The next `length` tokens as guessed; none where nothing agrees. Past the end, the copy repeats."""
        if not self._source:
            return []
        guessed: list[int] = tokens[self._source : self._source + length].tolist()
        period = len(tokens) - self._source
        while len(guessed) < length:
            guessed.append(guessed[-period])
        return guessed

    def chances(self, length: int) -> Iterator[float]:
        """For each of the next `length` guesses how likely it and all before it come true."""
        chance = 1.0
        for number in range(length if self._source else 0):
            chance *= self._rates[_bucket(self._num_agreeing + number)]
            yield chance

    def _compare(self, came_true: bool) -> None:
        bucket = _bucket(self._num_agreeing)
        self._rates[bucket] += (came_true - self._rates[bucket]) * _LEARNING_RATE
        if came_true:
            self._source += 1
            self._num_agreeing += 1
        else:
            self._source = self._num_agreeing = 0

    def _find(self, tokens: Array) -> None:
        """The latest place among those that agree the longest with the end of the text."""
        last = len(tokens) - 1
        places = (tokens[:last] == tokens[last]).nonzero()[0]
        if not len(places):
            return
        length = 1
        while length < min(_LONGEST_MATCH, last):
            # A place at the begin of the text has nothing before it: index -1 - length wraps to later tokens.
            longer = places[(tokens[places - length] == tokens[last - length]) & (places >= length)]
            if not len(longer):
                break
            places, length = longer, length + 1
        self._source, self._num_agreeing = int(places[-1]) + 1, length


def _bucket(num_agreeing: int) -> int:
    return min(num_agreeing.bit_length(), len(_FIRST_RATES) - 1)
