"""The engine over a fake model: right answers, nothing leaked, order kept, whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Sequence as List
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_model import (
    END,
    FakeRunner,
    NextToken,
    expected_answer,
    log_prob,
    next_repeating_token,
    next_token,
)

from weft.errors import PromptError, ThreadError
from weft.serve.engine import Engine
from weft.serve.kv_blocks import blocks_for
from weft.serve.limits import EngineLimits
from weft.serve.sampling import SamplingParams
from weft.serve.sequence import FinishReason, Purpose, Sequence

CONTEXT = 160


class FreeRows:
    """Costs of steps as if further rows came for nothing: whatever may be right is guessed."""

    def observe(self, num_rows: int, seconds: float) -> None:
        return None

    def estimate(self, num_rows: int) -> float:
        return 1.0


def make_engine(
    num_blocks: int = 64,
    max_rows: int = 32,
    max_running: int = 8,
    max_score_rows: int = 16,
    draft_max: int = 0,
    runner: FakeRunner | None = None,
) -> Engine:
    """An engine over a fake model; with `draft_max` over one that repeats itself."""
    limits = EngineLimits(CONTEXT, num_blocks, max_rows, max_score_rows, max_running, draft_max)
    engine = Engine(runner or FakeRunner(num_blocks, follow(draft_max)), limits)
    engine.drafter.costs = FreeRows()
    return engine


def follow(draft_max: int) -> NextToken:
    """How the fake model goes on."""
    return next_repeating_token if draft_max else next_token


def request(
    prompt: List[int], max_tokens: int = 20, seed: int = 0, ends: bool = True, **settings: Any
) -> Sequence:
    params = SamplingParams(max_tokens=max_tokens, logprobs=True, **settings)
    return Sequence(
        np.array(prompt),
        params,
        max_length=min(len(prompt) + max_tokens, CONTEXT),
        seed=seed,
        end_ids=frozenset([END]) if ends else frozenset(),
    )


def scoring(tokens: List[int]) -> Sequence:
    return Sequence(np.array(tokens), SamplingParams(), purpose=Purpose.SCORE, max_length=len(tokens))


def check_answer(sequence: Sequence, draft_max: int = 0) -> None:
    prompt = sequence.prompt.tolist()
    room = sequence.max_length - len(prompt)
    expected = expected_answer(
        prompt, sequence.seed, sequence.stream, room, bool(sequence.end_ids), follow(draft_max)
    )
    if sequence.finish_reason in (FinishReason.CANCELLED, FinishReason.TIMEOUT):
        assert sequence.output == expected[: len(sequence.output)]
    else:
        assert sequence.output == expected
        assert sequence.finish_reason is (FinishReason.LENGTH if len(expected) == room else FinishReason.STOP)
    assert len(sequence.logprobs) == len(sequence.output)


def check_empty(engine: Engine) -> None:
    scheduler = engine.scheduler
    assert scheduler.schedule() is None and scheduler.idle
    assert scheduler.blocks.num_used == 0
    assert scheduler.seats.num_free == len(scheduler.seats.token)


def test_one_request() -> None:
    engine = make_engine()
    sequence = request([5, 6, 7])
    engine.submit([sequence])
    engine.wait([sequence])
    check_answer(sequence)
    check_empty(engine)


def test_answers_do_not_depend_on_batch_chunks_or_order() -> None:
    prompts = [[n % 250 + 1] * (1 + 7 * n % 90) for n in range(40)]
    for max_rows, max_running, order in ((8, 8, 1), (33, 3, -1), (512, 64, 1), (64, 1, 1)):
        engine = make_engine(256, max_rows, max_running)
        sequences = [request(prompt, seed=n) for n, prompt in enumerate(prompts)][::order]
        engine.submit(sequences)
        engine.wait(sequences)
        for sequence in sequences:
            check_answer(sequence)
        check_empty(engine)


def test_long_prompts_come_in_chunks_among_decoding_rows() -> None:
    engine = make_engine(max_rows=16)
    short, long = request([1], 100, ends=False), request([2] * 120)
    engine.submit([short])
    engine.wait_for_output(short, 0)
    engine.submit([long])
    engine.wait([short, long])
    runner = engine._runner
    assert isinstance(runner, FakeRunner)
    assert (16, 1) in runner.steps, "a step of one decoding row and fifteen of the prompt"
    check_answer(short)
    check_answer(long)


def test_preemption_recomputes_exactly() -> None:
    engine = make_engine(num_blocks=6)
    sequences = [request([n + 1] * 30, 60, seed=n, ends=False) for n in range(5)]
    engine.submit(sequences)
    engine.wait(sequences)
    assert engine.scheduler.num_preemptions > 0
    for sequence in sequences:
        check_answer(sequence)
    check_empty(engine)


def test_scores() -> None:
    engine = make_engine()
    texts = [[3, 1, 4, 1, 5, 9] * 9, [7], [2, 7]]
    sequences = [scoring(text) for text in texts]
    answer = request([1, 2, 3])
    engine.submit([sequences[0], answer, *sequences[1:]])
    engine.wait([*sequences, answer])
    check_answer(answer)
    for text, sequence in zip(texts, sequences, strict=True):
        expected = [log_prob(text[:n], text[n]) for n in range(1, len(text))]
        assert np.concatenate(sequence.scores).tolist() == np.array(expected, np.float32).tolist()
    check_empty(engine)


def test_cancel() -> None:
    engine = make_engine()
    running, waiting = request([1, 2], 100, ends=False), request([3], 100)
    engine.submit([running])
    engine.wait_for_output(running, 3)
    engine.submit([waiting])
    engine.cancel([running, waiting])
    assert running.finished and waiting.finished
    assert running.finish_reason is FinishReason.CANCELLED
    check_answer(running)
    check_empty(engine)


def test_a_request_cancelled_in_the_queue_takes_no_seat() -> None:
    engine = make_engine(max_running=2)
    requests = [request([number], 20, ends=False) for number in range(1, 6)]
    cancelled = requests.pop(3)  # behind one that is admitted in the same step
    engine.submit([*requests[:3], cancelled, requests[3]])
    engine._step()
    engine.cancel([cancelled])
    while not all(sequence.finished for sequence in requests):
        engine._step()
        assert cancelled.seat == -1
    check_empty(engine)


def test_a_failing_step_fails_its_requests_and_no_others() -> None:
    engine = make_engine()
    runner = engine._runner
    assert isinstance(runner, FakeRunner)
    failing = request([1, 2])
    runner.fail_next = ValueError("not finite")
    engine.submit([failing])
    with pytest.raises(ValueError, match="not finite"):
        engine.wait([failing])
    after = request([4, 5])
    engine.submit([after])
    engine.wait([after])
    check_answer(after)
    check_empty(engine)


def test_prompts_that_cannot_fit_are_refused() -> None:
    engine = make_engine()
    with pytest.raises(PromptError, match="at least one token"):
        engine.submit([request([])])
    with pytest.raises(PromptError, match="context of 160 tokens, got one of 160"):
        engine.submit([request([1] * CONTEXT)])


def test_close_ends_what_runs() -> None:
    engine = make_engine()
    sequence = request([1], 100, ends=False)
    engine.submit([sequence])
    engine.wait_for_output(sequence, 2)
    engine.close()
    engine.close()
    with pytest.raises(ThreadError, match="closed"):
        engine.wait([sequence])
    with pytest.raises(ThreadError, match="closed"):
        engine.submit([request([1])])


def test_many_threads() -> None:
    engine = make_engine(num_blocks=24, max_running=4)
    barrier = threading.Barrier(12)
    answers: list[Sequence] = []

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(6):
            sequence = request([number + 1, turn + 1] * 9, 30, seed=number)
            engine.submit([sequence])
            if turn % 3 == 1:
                engine.wait_for_output(sequence, turn)
                engine.cancel([sequence])
            engine.wait([sequence])
            answers.append(sequence)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 72
    for sequence in answers:
        check_answer(sequence)
    check_empty(engine)


def check_running(engine: Engine) -> None:
    """What holds after every step."""
    scheduler = engine.scheduler
    running = [*scheduler.decoding, *(s for group in scheduler.prefilling.values() for s in group)]
    blocks = [block for sequence in running for block in sequence.blocks]
    assert len(set(blocks)) == scheduler.blocks.num_used, "each block has a holder"
    own = [block for s in running for block in s.blocks[s.num_keyed :]]
    assert len(set(own)) == len(own), "a block that is still written has one holder"
    assert len({sequence.seat for sequence in running}) == len(running)
    waiting = [sequence.order for sequence in scheduler.waiting]
    assert waiting == sorted(waiting), "first come, first served"
    assert not any(sequence.finished for sequence in scheduler.waiting)
    if waiting and running:
        # Who waits for a better one's prompt lets those run that had begun.
        priority = waiting[0][0]
        same = [sequence.order for sequence in running if sequence.params.priority == priority]
        assert max(same, default=waiting[0]) <= waiting[0], "nobody is overtaken"
    for sequence in scheduler.decoding:
        assert blocks_for(sequence.num_tokens - 1) <= len(sequence.blocks) <= blocks_for(sequence.max_length)


EVENTS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 100), st.integers(1, 120)),
    st.tuples(st.just("urgent"), st.integers(1, 100), st.integers(1, 120)),
    st.tuples(st.just("score"), st.integers(1, 100), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 1000), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 12), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(EVENTS, max_size=40),
    st.integers(5, 20),
    st.integers(1, 6),
    st.integers(6, 40),
    st.sampled_from([0, 1, 5, 40]),
)
def test_random_lives(
    events: list[tuple[str, int, int]], blocks: int, seats: int, rows: int, draft_max: int
) -> None:
    engine = make_engine(blocks, max(rows, seats), seats, 8, draft_max)
    sequences: list[Sequence] = []
    for kind, first, second in events:
        if kind == "add":
            # Texts of two kinds: many begin as others do.
            sequences.append(request([first % 2 + 1] * first, second, seed=len(sequences)))
            engine.submit([sequences[-1]])
        elif kind == "urgent":
            priority = first % 3 - 1
            sequences.append(request([second % 2 + 1] * first, second, len(sequences), priority=priority))
            engine.submit([sequences[-1]])
        elif kind == "score":
            sequences.append(scoring([first] * first))
            engine.submit([sequences[-1]])
        elif kind == "cancel" and sequences:
            engine.cancel([sequences[first % len(sequences)]])
        elif kind == "step":
            for _ in range(first):
                engine._step()
                check_running(engine)
    engine.wait(sequences)
    for sequence in sequences:
        if sequence.purpose is Purpose.GENERATE:
            check_answer(sequence, draft_max)
    check_empty(engine)
