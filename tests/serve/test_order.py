"""Who is served first, who is put aside, and whose time is over."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_model import FakeRunner

from tests.serve.test_engine import CONTEXT, check_answer, check_empty, make_engine, request
from weft.errors import ConfigError
from weft.serve.engine import Engine
from weft.serve.limits import EngineLimits
from weft.serve.sampling import SamplingParams
from weft.serve.sequence import FinishReason, Sequence, Status
from weft.serve.waiting_queue import WaitingQueue


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def timed_engine(max_running: int = 4) -> tuple[Engine, Clock]:
    clock = Clock()
    return Engine(FakeRunner(32), EngineLimits(CONTEXT, 32, 32, 16, max_running), clock), clock


def endings(engine: Engine, sequences: list[Sequence]) -> list[int]:
    """The places of `sequences` in the order in which they end."""
    ended: list[int] = []
    while engine._step():
        ended += [n for n, sequence in enumerate(sequences) if sequence.finished and n not in ended]
    return ended


def test_the_queue_keeps_order_and_lets_go() -> None:
    queue = WaitingQueue()
    sequences = [request([1], priority=priority) for priority in (0, 5, 0, -3, 5)]
    for number, sequence in enumerate(sequences):
        sequence.order = (sequence.params.priority, number)
        queue.add(sequence)
    assert [s.order for s in queue] == [(-3, 3), (0, 0), (0, 2), (5, 1), (5, 4)]
    queue.remove(sequences[2])
    queue.remove(sequences[2])
    assert queue.first is queue.take() is sequences[3]
    assert [s.order[1] for s in queue] == [0, 1, 4] and len(queue) == 3
    for sequence in list(queue):
        queue.remove(sequence)
    assert queue.first is None


def test_lower_priorities_come_first_and_arrivals_in_turn() -> None:
    engine = make_engine(max_running=1)
    priorities = [0, 3, 0, -1, 3, -1]
    sequences = [request([n + 1] * 5, 6, seed=n, ends=False, priority=p) for n, p in enumerate(priorities)]
    engine.submit(sequences)
    assert endings(engine, sequences) == [3, 5, 0, 2, 1, 4]
    for sequence in sequences:
        check_answer(sequence)
    check_empty(engine)


def test_a_better_one_takes_the_seat_of_the_last_and_the_answer_stays_exact() -> None:
    engine = make_engine(max_running=2)
    slow = [request([n + 1] * 40, 60, seed=n, ends=False, priority=n) for n in range(2)]
    engine.submit(slow)
    for _ in range(20):
        engine._step()
    urgent = request([9] * 40, 8, seed=7, ends=False, priority=-1)
    same = request([8] * 40, 8, seed=8, ends=False, priority=1)
    engine.submit([same, urgent])
    engine._step()
    assert urgent.status is Status.RUNNING and slow[1].status is Status.WAITING
    assert slow[0].status is Status.RUNNING, "the last in order goes, no other"
    assert endings(engine, [*slow, urgent, same]) == [2, 0, 3, 1]
    assert slow[1].num_preemptions == 1 and slow[0].num_preemptions == same.num_preemptions == 0
    for sequence in [*slow, urgent, same]:
        check_answer(sequence)
    check_empty(engine)


def test_a_better_one_takes_blocks_until_it_fits() -> None:
    engine = make_engine(num_blocks=8, max_running=8)
    small = [request([n + 1] * 20, 12, seed=n, ends=False) for n in range(4)]
    engine.submit(small)
    engine._step()
    large = request([9] * 120, 20, seed=5, ends=False, priority=-5)
    engine.submit([large])
    engine._step()
    assert large.status is Status.RUNNING
    assert [s.status for s in small] == [Status.RUNNING] * 2 + [Status.WAITING] * 2
    engine.wait([*small, large])
    for sequence in [*small, large]:
        check_answer(sequence)
    check_empty(engine)


def test_a_better_one_waits_for_a_prompt_like_its_own() -> None:
    engine = make_engine(max_rows=40)
    text = list(range(1, 101))
    first, better = request(text, 5), request(text, 5, seed=1, priority=-1)
    engine.submit([first])
    engine._step()
    engine.submit([better])
    engine.wait([first, better])
    assert first.num_preemptions == 0 and better.num_reused == 99
    check_answer(first)
    check_answer(better)


def test_time_is_over_for_those_who_run_and_those_who_wait() -> None:
    engine, clock = timed_engine(max_running=1)
    running = request([1, 2], 100, ends=False, timeout=5)
    waiting = request([3], 10, seed=1, ends=False, timeout=4.5)
    patient = request([4], 10, seed=2, ends=False)
    engine.submit([running, waiting, patient])
    for _ in range(10):
        engine._step()
    clock.now += 4.75
    engine._step()
    assert waiting.finished and waiting.finish_reason is FinishReason.TIMEOUT and not waiting.output
    assert not running.finished
    clock.now += 0.5
    engine._step()
    assert running.finish_reason is FinishReason.TIMEOUT and len(running.output) == 11
    engine.wait([patient])
    for sequence in (running, waiting, patient):
        check_answer(sequence)
    check_empty(engine)


def test_deadlines_of_what_is_finished_are_forgotten() -> None:
    engine, clock = timed_engine()
    for n in range(300):
        sequence = request([n % 9 + 1], 1, seed=n, timeout=3600)
        engine.submit([sequence])
        engine.wait([sequence])
        assert sequence.finish_reason is not FinishReason.TIMEOUT
    assert len(engine._deadlines) < 80
    clock.now += 4000
    last = request([1], 1)
    engine.submit([last])
    engine.wait([last])
    assert not engine._deadlines


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "soon", 1e9])
def test_time_outs_that_cannot_be(timeout: object) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        SamplingParams(timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("priority", [0.5, None, 1 << 40, True])
def test_priorities_that_cannot_be(priority: object) -> None:
    with pytest.raises(ConfigError, match="priority"):
        SamplingParams(priority=priority)  # type: ignore[arg-type]


def test_choices_hold_one_prompt() -> None:
    engine = make_engine(num_blocks=40, max_running=16, max_rows=200)
    prompt = list(np.arange(96) % 90 + 1)
    choices = [request(prompt, 20, seed=n, ends=False) for n in range(10)]
    engine.submit(choices)
    engine._step()
    engine._step()
    assert all(choice.status is Status.RUNNING for choice in choices)
    assert engine.scheduler.blocks.num_used <= 3 + 10, "the prompt's blocks, and one for each answer"
    engine.wait(choices)
    for choice in choices:
        check_answer(choice)
    check_empty(engine)
