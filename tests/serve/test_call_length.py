"""Several steps in one call: fewer calls, the same answers, and nobody overlooked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_model import FakeRunner

from tests.serve.test_engine import FreeRows, check_answer, check_empty, check_running, make_engine, request
from weft.serve.call_length import CallLength
from weft.serve.engine import Engine
from weft.serve.sequence import FinishReason


class ShortSteps(FreeRows):
    """Costs of steps of which three are a call."""

    def estimate(self, num_rows: int) -> float:
        return 0.004


class CallCounter(FakeRunner):
    """A fake model that runs steps in chains and remembers how long they were."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.chains = True
        self.calls: list[int] = []

    def generate_chain(self, inputs, num_steps, ends):  # type: ignore[no-untyped-def]
        sampled = super().generate_chain(inputs, num_steps, ends)
        self.calls.append(len(sampled.tokens) // len(inputs["tokens"]))
        return sampled


def chaining_engine(
    num_blocks: int = 64, max_rows: int = 32, max_running: int = 8
) -> tuple[Engine, CallCounter]:
    runner = CallCounter(num_blocks)
    engine = make_engine(num_blocks, max_rows, max_running, runner=runner)
    engine.drafter.costs = ShortSteps()
    return engine, runner


def test_three_steps_a_call() -> None:
    engine, runner = chaining_engine()
    sequence = request([5, 6, 7], 20, ends=False)
    engine.submit([sequence])
    engine.wait([sequence])
    check_answer(sequence)
    assert runner.calls == [2, 3, 3, 3, 3, 3], "after the prompt and a step alone; the last is alone again"
    assert engine.statistics.num_steps == engine.statistics.num_tokens == 20
    assert engine.statistics.num_rows == 3 + 19
    check_empty(engine)


def test_an_end_of_text_ends_the_call() -> None:
    engine, runner = chaining_engine()
    sequences = [request([seed, 1], 100, seed=seed) for seed in range(1, 30)]
    for sequence in sequences:
        engine.submit([sequence])
        engine.wait([sequence])
        check_answer(sequence)
    assert {FinishReason.STOP} <= {sequence.finish_reason for sequence in sequences}
    assert set(runner.calls) == {1, 2, 3}
    stopped = sum(sequence.finish_reason is FinishReason.STOP for sequence in sequences)
    rows_after_prompts = sum(len(sequence.output) - 1 for sequence in sequences) + stopped
    assert engine.statistics.num_rows == rows_after_prompts + 2 * len(sequences), "no row behind an end"
    check_empty(engine)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 60), st.booleans()), min_size=1, max_size=14),
    st.integers(5, 40),
    st.integers(0, 1000),
)
def test_answers_are_those_of_single_steps(
    wanted: list[tuple[int, int, bool]], num_blocks: int, seed: int
) -> None:
    """Whatever comes and goes, and however few blocks there are: also after preemptions."""
    engine, _ = chaining_engine(num_blocks)
    sequences = [
        request([(seed + n) % 250] * length, most, seed=seed + n, ends=ends)
        for n, (length, most, ends) in enumerate(wanted)
        if length + most <= num_blocks * 32
    ]
    half = len(sequences) // 2
    engine.submit(sequences[:half])
    for _ in range(seed % 7):
        engine._step()
        check_running(engine)
    engine.submit(sequences[half:])
    if half:
        engine.cancel_later(sequences[0])
    while engine._step():
        check_running(engine)
    for sequence in sequences:
        check_answer(sequence)
    check_empty(engine)


def test_what_needs_each_token_is_run_step_by_step() -> None:
    engine, runner = chaining_engine()
    penalized = request([5, 6, 7], 12, ends=False, presence_penalty=0.5)
    engine.submit([penalized])
    engine.wait([penalized])
    check_answer(penalized)
    assert runner.calls == []


def test_calls_grow_to_what_a_newcomer_may_wait() -> None:
    plain, short = request([5], 50), request([5], 2)
    penalized = request([5], 50, presence_penalty=0.5)
    length = CallLength()
    assert [length.steps([plain], 0.004) for _ in range(4)] == [1, 2, 3, 3]
    assert length.steps([plain], 0.001) == 8
    assert length.steps([plain], 0.02) == 1
    assert length.steps([plain, short], 0.004) == 2, "as many tokens as the shortest still wants"
    assert length.steps([plain, penalized], 0.004) == 1
    length.note_guess()
    assert [length.steps([plain], 0.001) for _ in range(5)] == [1, 2, 4, 8, 8]


def test_an_error_within_a_call_fails_its_requests_alone() -> None:
    engine, runner = chaining_engine()
    sequence = request([5, 6, 7], 30)
    engine.submit([sequence])
    engine.wait_for_output(sequence, 2)
    runner.fail_next = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        engine.wait([sequence])
    check_empty(engine)
    other = request([8] * 20)
    engine.submit([other])
    engine.wait([other])
    check_answer(other)
    assert np.all(np.array(runner.calls) <= 3)
