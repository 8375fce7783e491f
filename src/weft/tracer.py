"""What takes the runs of plans, to keep what their threads did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from weft.runtime import Executable
from weft.types import Array


class Tracer(Protocol):
    """Takes the spans of runs: `weft.serve.trace.TraceFile`, `weft.serve.recent_runs.RecentRuns`."""

    def run(self, executable: Executable, inputs: Mapping[str, Array], team: int) -> dict[str, Array]:
        """Runs the plan on a team and keeps what its threads did."""


class Traceable(Protocol):
    """What runs plans: `weft.serve.plan_runner.PlanRunner`, `weft.train.trainer.Trainer`."""

    tracer: Tracer | None
