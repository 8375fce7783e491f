"""Guesses at what comes next, without a second model: what followed when the same tokens came before.

Prompt look-up (Saxena, 2023; Yang et al., 2023, Inference with reference): an answer that edits or extracts
from a text repeats long parts of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as List

_LONGEST_MATCH = 16  # tokens that are compared when a new place is looked for; following it counts on
_MOST_PLACES = 64  # that are compared with the end of the text, the latest first
_MOST_CHANGED = 6  # tokens that may differ before a place that was left is taken up again
_LONG_MATCH = 4  # tokens; with as many another place is not given up for the one that was left
# How often the next token repeats that of a place, by the binary digits of the number of tokens that agree
# before it (0, 1, 2 to 3, 4 to 7, ... and from 32 on): where each request begins.
_FIRST_RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
_LEARNING_RATE = 1 / 6


class PromptLookup:
    """Follows one request's text along the latest of the earlier places that agree with its end the longest.

    Each token that comes is compared with the one that was guessed, proposed or not, so that the rates of
    guesses that come true are known even while none is proposed. Between two steps no array is made: a few
    microseconds are what a request's guesses may cost.
    """

    def __init__(self, prompt: List[int]) -> None:
        self._num_prompt = len(prompt)
        self._text = array("i")
        self._before = array("i")  # where each token of the text came the last time before; -1 for never
        self._latest: dict[int, int] = {}  # the latest place of each token
        self._source = 0  # the place's next token; 0 for none
        self._num_agreeing = 0  # tokens before it that are those at the end of the text
        self._left = self._left_agreeing = 0  # the same of the place whose guess did not come true last
        self._rates = list(_FIRST_RATES)
        for token in prompt:
            self._append(token)

    def follow(self, output: List[int]) -> None:
        """Takes note of what came since the last call; `output` is the whole answer so far."""
        for token in output[len(self._text) - self._num_prompt :]:
            if self._source:
                self._compare(self._text[self._source] == token)
            self._append(token)
        if not self._source:
            self._find()

    def draft(self, length: int) -> list[int]:
        """The next `length` tokens as guessed; none where nothing agrees. Past the end, the copy repeats."""
        if not self._source:
            return []
        guessed = self._text[self._source : self._source + length].tolist()
        period = len(self._text) - self._source
        while len(guessed) < length:
            guessed.append(guessed[-period])
        return guessed

    def chances(self, length: int, least: float = 0.0) -> list[float]:
        """How likely each of the next `length` guesses and all before it come true, down to `least`."""
        chance, chances = 1.0, []
        for number in range(length if self._source else 0):
            chance *= self._rates[_bucket(self._num_agreeing + number)]
            if chance < least:
                break
            chances.append(chance)
        return chances

    def _append(self, token: int) -> None:
        self._before.append(self._latest.get(token, -1))
        self._latest[token] = len(self._text)
        self._text.append(token)

    def _compare(self, came_true: bool) -> None:
        bucket = _bucket(self._num_agreeing)
        self._rates[bucket] += (came_true - self._rates[bucket]) * _LEARNING_RATE
        if came_true:
            self._source += 1
            self._num_agreeing += 1
        else:
            self._left, self._left_agreeing = self._source, self._num_agreeing
            self._source = self._num_agreeing = 0

    def _find(self) -> None:
        """The latest place among those that agree the longest with the end of the text."""
        text, before = self._text, self._before
        last = len(text) - 1
        place, source, longest = before[last], 0, 0
        for _ in range(_MOST_PLACES):
            if place < longest or longest == _LONGEST_MATCH:
                break
            if text[place - longest] == text[last - longest]:  # or it cannot agree for longer
                length = _num_agreeing(text, place, last)
                if length > longest:
                    source, longest = place + 1, length
            place = before[place]
        self._source, self._num_agreeing = source, longest
        if longest <= _LONG_MATCH <= self._left_agreeing:
            self._resume()

    def _resume(self) -> None:
        """Takes up the place that was left if it goes on with the text's last token: a word was changed.

        What agreed before counts in part, for one token alone says little.
        """
        text, last = self._text, len(self._text) - 1
        for place in range(self._left + 1, min(self._left + _MOST_CHANGED + 1, last)):
            if text[place] == text[last]:
                self._source, self._num_agreeing, self._left_agreeing = place + 1, _LONG_MATCH, 0
                break


def _num_agreeing(text: array[int], place: int, last: int) -> int:
    """How many tokens up to `place` are those up to `last`, at most _LONGEST_MATCH."""
    length, most = 1, min(_LONGEST_MATCH, place + 1)
    while length < most and text[place - length] == text[last - length]:
        length += 1
    return length


def _bucket(num_agreeing: int) -> int:
    return min(num_agreeing.bit_length(), len(_FIRST_RATES) - 1)
