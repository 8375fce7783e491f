"""Guessing ahead: fewer steps, the same answers, whatever was guessed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_model import FakeRunner

from tests.serve.test_engine import check_answer, check_empty, check_running, make_engine, request
from weft.serve.drafter import Drafter
from weft.serve.engine import Engine
from weft.serve.prompt_lookup import PromptLookup
from weft.serve.sampling import SamplingParams
from weft.serve.sequence import FinishReason, Sequence
from weft.serve.step_costs import StepCosts

PERIOD = [3, 1, 4, 1, 5, 9, 2, 6]


def looked_up(text: list[int], length: int) -> list[int]:
    lookup = PromptLookup(text)
    lookup.follow([])
    return lookup.draft(length)


def run(engine: Engine, sequences: list[Sequence]) -> list[tuple[int, int]]:
    """The rows and outputs of the steps that answered `sequences`."""
    engine.submit(sequences)
    engine.wait(sequences)
    runner = engine._runner
    assert isinstance(runner, FakeRunner)
    return runner.steps


def test_what_followed_before_is_guessed() -> None:
    assert looked_up([7, 8, 9, 10, 7, 8], 2) == [9, 10]
    assert looked_up([7, 8, 9, 10, 7, 8], 6) == [9, 10, 7, 8, 9, 10], "a copy goes on in itself"
    assert looked_up([5, 5], 3) == [5, 5, 5]
    assert looked_up([1, 2, 3, 4], 3) == []
    assert looked_up([1], 3) == []


def test_the_longest_agreement_wins_then_the_latest() -> None:
    text = [1, 2, 3, 10, 2, 3, 20, 9, 3, 30, 1, 2, 3]
    assert looked_up(text, 1) == [10]
    assert looked_up([2, 3, 10, 2, 3, 20, 2, 3], 1) == [20]
    assert looked_up([3, 7, 5, 3], 1) == [7], "the first token agrees, nothing is before it"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(1, 59))
def test_following_finds_what_looking_finds(text: list[int], first: int) -> None:
    """Token by token the place is as good as one that is looked for in the whole text at once, or as one that
    was left and taken up again, for which 3 tokens may count that do not agree.
    """
    first = min(first, len(text))
    lookup = PromptLookup(text[:first])
    for length in range(first, len(text) + 1):
        lookup.follow(text[first:length])
    agreeing = [
        next((n for n in range(end) if text[end - 1 - n] != text[-1 - n]), end) for end in range(1, len(text))
    ]
    assert min(lookup._num_agreeing, 16) >= min(max(agreeing), 16)
    if source := lookup._source:
        assert min(lookup._num_agreeing, 16) <= min(agreeing[source - 1], 16) + 3


def test_a_changed_word_does_not_lose_the_place() -> None:
    text = [*range(20, 30), 7, 8, 50, 51, 8, 60]
    lookup, answer = PromptLookup(text), [*range(20, 30), 99, 98]
    lookup.follow(answer[:10])
    assert lookup.draft(4) == [7, 8, 50, 51]
    for length in (11, 12):  # words that are new
        lookup.follow(answer[:length])
        assert lookup.draft(2) == []
    lookup.follow([*answer, 8])
    assert lookup.draft(2) == [50, 51], "not 60, which followed an 8 last"
    assert lookup.chances(1)[0] > 0.5, "as likely as after several tokens that agree"


def test_rates_are_learned_without_proposing() -> None:
    lookup, answer = PromptLookup(PERIOD * 2), PERIOD * 10
    for length in range(len(answer)):
        lookup.follow(answer[:length])
    assert min(lookup.chances(4)) > 0.9
    assert lookup.chances(4, least=1.0) == []
    lookup.follow([*answer, *range(100, 140)])
    assert lookup.chances(4) == []


def test_costs_are_measured_or_in_proportion() -> None:
    costs = StepCosts()
    assert costs.estimate(5) / costs.estimate(1) == 2.0
    costs.observe(1, 4.0)
    assert costs.estimate(1) == 4.0 and costs.estimate(5) == 8.0
    costs.observe(5, 20.0)
    assert costs.estimate(5) == 12.0, "half more than expected at most: the process may have been put aside"
    assert costs.estimate(3) == 8.0, "between two measured ones"
    for _ in range(60):
        costs.observe(5, 20.0)
    assert costs.estimate(5) == pytest.approx(20.0, rel=1e-3)
    for _ in range(4000):
        costs.observe(1, 4.0)
    assert costs.estimate(5) == 8.0, "what was not seen for long is forgotten"


class Linear:
    """Costs of a fixed share and one of each row."""

    def __init__(self, fixed: float) -> None:
        self.fixed = fixed

    def observe(self, num_rows: int, seconds: float) -> None:
        return None

    def estimate(self, num_rows: int) -> float:
        return self.fixed + num_rows


def drafts(fixed: float, texts: list[list[int]], draft_max: int = 16, room: int = 100) -> list[int]:
    """Lengths of the drafts of requests with these texts."""
    drafter = Drafter(draft_max)
    drafter.costs = Linear(fixed)
    sequences = [request(text, 100) for text in texts]
    chosen = drafter.choose(sequences, room)
    return [len(chosen.get(sequence, ())) for sequence in sequences]


def test_drafts_are_as_long_as_they_pay() -> None:
    assert drafts(1e6, [PERIOD * 4]) == [16]
    assert drafts(0.0, [PERIOD * 4]) == [0], "a row costs as much as a step"
    assert 0 < drafts(1.0, [PERIOD * 4])[0] < 16
    assert drafts(1e6, [[*range(30)]]) == [0], "nothing repeats"
    assert drafts(1e6, [PERIOD * 4], draft_max=3) == [3]
    assert drafts(1e6, [PERIOD * 4], draft_max=0) == [0]
    assert drafts(1e6, [PERIOD * 4] * 3, room=20) in ([7, 7, 6], [6, 7, 7], [7, 6, 7])
    surer, less_sure = drafts(3.0, [PERIOD * 4, [1, 2, 3, 1, 2]])
    assert surer > less_sure, "the likelier rows come first"


def test_a_guess_has_to_bring_back_the_calls_that_it_costs() -> None:
    drafter = Drafter(1)
    drafter.costs = Linear(9.0)
    sequence = request([1, 2, 3, 1], 100)  # 1 in 5 that 2 follows, where 1 in 10 would pay for the row
    assert drafter.choose([sequence], 100, chains=True) and drafter.choose([sequence], 100)
    for _ in range(200):
        drafter.note_pause(3.0)
    assert 2.9 < drafter.between_calls < 3.01
    assert drafter.choose([sequence], 100), "each step is a call of its own anyway"
    assert not drafter.choose([sequence], 100, chains=True)
    before = drafter.between_calls
    drafter.note_pause(3600.0)
    assert drafter.between_calls < 1.2 * before, "the engine slept"


def test_fewer_steps_and_the_same_answer() -> None:
    engine = make_engine(draft_max=8)
    sequence = request([1, 2, 3], 120, ends=False)
    steps = run(engine, [sequence])
    check_answer(sequence, 8)
    assert len(steps) < 90 and max(rows for rows, _ in steps[1:]) > 1
    counts = engine.statistics
    assert counts.num_drafted >= counts.num_accepted == 120 - len(steps)
    assert counts.num_tokens == 120
    check_empty(engine)


def test_an_end_among_right_guesses_ends() -> None:
    ended = 0
    for seed in range(40):
        engine = make_engine(draft_max=12)
        sequence = request([seed, 1], 100, seed=seed)
        run(engine, [sequence])
        check_answer(sequence, 12)
        ended += sequence.finish_reason is FinishReason.STOP
        check_empty(engine)
    assert ended > 3


def test_guesses_take_no_blocks_that_others_need() -> None:
    engine = make_engine(num_blocks=6, draft_max=20)
    sequences = [request([n + 1] * 30, 60, seed=n, ends=False) for n in range(5)]
    engine.submit(sequences)
    while engine._step():
        check_running(engine)
    for sequence in sequences:
        check_answer(sequence, 20)
    assert engine.statistics.num_accepted > 0
    check_empty(engine)


def test_blocks_with_wrong_guesses_are_not_shared() -> None:
    """The next turn takes from the cache what was answered, never what was guessed."""
    engine = make_engine(draft_max=20)
    for seed in range(20):
        turn = request([seed % 5, 2, 3] * 9, 70, seed=seed, ends=False)
        run(engine, [turn])
        check_answer(turn, 20)
        following = request([*turn.prompt.tolist(), *turn.output, 5], 10, seed=seed)
        run(engine, [following])
        check_answer(following, 20)
        assert following.num_reused >= 64
    assert engine.statistics.num_accepted < engine.statistics.num_drafted


def test_the_seats_draw_by_the_settings_of_each_row() -> None:
    """A draft's rows count its tokens before them into the penalties, and draw at their own positions."""
    engine = make_engine(draft_max=8)
    seen = []
    generate = engine._runner.generate

    def spy(inputs):  # type: ignore[no-untyped-def]
        seen.append({name: array.copy() for name, array in inputs.items()})
        return generate(inputs)

    engine._runner.generate = spy  # type: ignore[method-assign]
    params = SamplingParams(repetition_penalty=1.2, logit_bias={4: 1.0}, max_tokens=60)
    sequences = [
        Sequence(np.array([n, *PERIOD, *PERIOD]), params, max_length=80, seed=n, stream=0) for n in range(3)
    ]
    run(engine, sequences)
    rows = 0
    for inputs in seen:
        for ints in inputs["int_settings"].tolist():
            position, begin, generated, end, bias = ints[6], ints[7], ints[8], ints[9], ints[10:12]
            history = inputs["history"][begin:end, 0].tolist()
            (sequence,) = [s for s in sequences if s.prompt[0] == history[0]]
            assert end - begin == position and generated - begin == len(sequence.prompt)
            assert bias[1] - bias[0] == 1
            whole = [*sequence.prompt.tolist(), *sequence.output]
            rows += history == whole[:position]
    assert rows == sum(len(sequence.output) for sequence in sequences) > 100
    assert engine.statistics.num_accepted > 20
