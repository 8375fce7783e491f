from __future__ import annotations

import itertools
import math

import pytest

from weft.train.schedules import Schedule


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "wsd"])
def test_every_schedule_warms_up_and_ends_where_it_should(kind):
    rate = Schedule(kind, peak=1.0, lowest=0.1, steps=100, warmup_steps=10, decay_steps=20)
    assert [rate(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    course = [rate(step) for step in range(10, 100)]
    assert all(a >= b for a, b in itertools.pairwise(course))
    assert course[-1] == pytest.approx(1.0 if kind == "constant" else 0.1)


def test_courses_between():
    rate = {kind: Schedule(kind, 1.0, 0.0, 100, 0, 20) for kind in ("linear", "cosine", "wsd")}
    assert rate["linear"](49) == pytest.approx(0.5)
    assert rate["cosine"](24) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert [rate["wsd"](step) for step in (0, 79, 89, 99)] == pytest.approx([1.0, 1.0, 0.5, 0.0])


def test_a_run_shorter_than_its_warm_up():
    rate = Schedule("cosine", 1.0, 0.1, 3, 10, 0)
    assert [rate(step) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])
