"""How many tokens each request guesses ahead in a step: as many as make the step's tokens cheapest."""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Protocol

from weft.serve.prompt_lookup import PromptLookup
from weft.serve.sequence import Sequence
from weft.serve.step_costs import StepCosts

_LEAST_CHANCE = 0.02
# Where steps run several in a call, one with guesses is a call of its own, and so is the one after it.
_MORE_CALLS = 2
_LEARNING_RATE = 0.1


class Costs(Protocol):
    """What steps cost; `StepCosts` learns it."""

    def observe(self, num_rows: int, seconds: float) -> None:
        """Takes note of a step that was run."""

    def estimate(self, num_rows: int) -> float:
        """Seconds of a step of `num_rows`."""


class Drafter:
    """Chooses drafts: tokens that a step verifies beside the row that a request has anyway.

    A row costs what the steps so far say, and brings a token as likely as the request's guesses came true;
    rows are added, the likeliest first, as long as tokens in a second grow. So nothing is guessed where that
    does not pay: in texts that repeat nothing, or in batches that keep the arithmetic busy.
    draft_max: most tokens of one request; 0 for none. between_calls: seconds that the engine itself takes.
    """

    def __init__(self, draft_max: int) -> None:
        self.draft_max = draft_max
        self.costs: Costs = StepCosts()
        self.between_calls = 0.0002

    def note_pause(self, seconds: float) -> None:
        """Takes note of the time between two calls; one in which the engine slept counts as little."""
        self.between_calls += (min(seconds, 2 * self.between_calls) - self.between_calls) * _LEARNING_RATE

    def choose(
        self, sequences: List[Sequence], max_guesses: int, *, chains: bool = False
    ) -> dict[Sequence, list[int]]:
        """The drafts of those of the decoding `sequences` that guess, at most `max_guesses` tokens in all.

        chains: whether several steps would run in one call without guesses.
        """
        if not (self.draft_max and sequences and self._may_pay(len(sequences), max_guesses)):
            return {}
        chances = [
            (chance, number)
            for number, sequence in enumerate(sequences)
            for chance in self._chances(sequence)
        ]
        if not chances:
            return {}
        # A request's chances fall from guess to guess, so that those taken are its first ones.
        chances.sort(reverse=True)
        lengths: dict[int, int] = {}
        for _, number in chances[: self._best_count(len(sequences), chances[:max_guesses], chains)]:
            lengths[number] = lengths.get(number, 0) + 1
        drafts = {sequences[number]: _draft(sequences[number], length) for number, length in lengths.items()}
        return {sequence: draft for sequence, draft in drafts.items() if draft}

    def _may_pay(self, num_rows: int, max_guesses: int) -> bool:
        """Whether rows could pay that are sure to bring a token."""
        estimate = self.costs.estimate
        cost_of_token = estimate(num_rows) / num_rows
        for rows in range(num_rows + 1, num_rows + min(max_guesses, self.draft_max) + 1):
            if estimate(rows) < rows * cost_of_token:
                return True
        return False

    def _chances(self, sequence: Sequence) -> List[float]:
        """How likely each guess of `sequence` comes true, as far as there is any use in it."""
        length = min(self.draft_max, sequence.max_length - sequence.num_tokens - 1)
        if length < 1:
            return ()
        if sequence.lookup is None:
            sequence.lookup = PromptLookup(sequence.prompt.tolist())
        sequence.lookup.follow(sequence.output)
        return sequence.lookup.chances(length, _LEAST_CHANCE)

    def _best_count(self, num_rows: int, chances: List[tuple[float, int]], chains: bool) -> int:
        """How many guesses, the likeliest first, make a second bring the most tokens."""
        besides = 0.0 if chains else self.between_calls
        best, best_rate = 0, num_rows / (self.costs.estimate(num_rows) + besides)
        besides = self.between_calls * (_MORE_CALLS if chains else 1)
        tokens = float(num_rows)
        for count, (chance, _) in enumerate(chances, 1):
            tokens += chance
            rate = tokens / (self.costs.estimate(num_rows + count) + besides)
            if rate > best_rate:
                best, best_rate = count, rate
        return best


def _draft(sequence: Sequence, length: int) -> list[int]:
    """The next `length` tokens as guessed, up to one that would end the text: nothing comes after it."""
    assert sequence.lookup is not None
    draft = sequence.lookup.draft(length)
    ends = (place for place, token in enumerate(draft) if token in sequence.end_ids)
    return draft[: next(ends, None)]


def num_equal(draft: List[int], tokens: List[int]) -> int:
    """How many tokens of `draft` were drawn before the first that was not."""
    for count, (guessed, drawn) in enumerate(zip(draft, tokens, strict=True)):
        if guessed != drawn:
            return count
    return len(draft)
