"""The scheduler over hours of random arrivals, cancellations, time-outs and preemptions."""

from __future__ import annotations

import pytest

from tests.serve.simulation import Simulation


def live(hours: float, seed: int) -> Simulation:
    simulation = Simulation(seed)
    simulation.run(hours)
    assert simulation.engine.scheduler.num_preemptions > 100 * hours
    assert simulation.engine.scheduler.num_reused_tokens > 1000 * hours
    assert simulation.engine.statistics.num_accepted > 1000 * hours
    assert set(simulation.ends) == {"stop", "length", "timeout", "cancelled"}
    return simulation


def test_half_an_hour() -> None:
    live(0.5, seed=1)


@pytest.mark.soak
def test_twenty_four_hours() -> None:
    live(24, seed=2)
