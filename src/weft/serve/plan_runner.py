"""Steps of a real model: a plan for each purpose, compiled for each team of the pool when first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial

from weft.runtime import Executable, native
from weft.serve.runner import Inputs, Sampled, Scored
from weft.serve.states import TextStates
from weft.serve.team_split import TeamCalls, join_outputs, split_inputs
from weft.tracer import Tracer
from weft.types import Array

# Inputs with rows of their own for each step of a chain; the others are the same for all.
_OF_EACH_STEP = (
    "positions",
    "slots",
    "sequences",
    "output_rows",
    "adapters",
    "output_adapters",
    "real_settings",
    "int_settings",
)


class PlanRunner:
    """Runs steps on `num_teams` teams; each takes a part of the requests. For one thread at a time.

    `compile_plan` gives a new executable of a purpose, for rows with adapters or without: runs of one
    executable take turns, so each team has its own. `copy_block` copies a block of the KV cache. `release`
    gives back what they ran on.

    states: what the model keeps of each text where it has no cache. gate: masks of tokens may be written
    until it opens.
    """

    def __init__(
        self,
        compile_plan: Callable[[str, bool], Executable],
        copy_block: Callable[[int, int], None],
        release: Callable[[], None],
        num_teams: int = 1,
    ) -> None:
        self.copy_block = copy_block
        self._compile = compile_plan
        self._release = release
        self._num_teams = num_teams
        self._executables: dict[tuple[str, int, bool], Executable] = {}
        self._lock = threading.Lock()
        self._calls = TeamCalls(num_teams)
        self.tracer: Tracer | None = None
        self.states: TextStates | None = None
        self.gate = native().Gate()

    @property
    def chains(self) -> bool:
        """Whether it can run several steps in one call now: nothing is to be done between them."""
        return self._num_teams == 1 and self.states is None and self.tracer is None

    def generate(self, inputs: Inputs) -> Sampled:
        """Computes the rows and draws a token for each output row."""
        return _sampled(self._run("generate", inputs))

    def generate_chain(self, inputs: Inputs, num_steps: int, ends: Collection[int]) -> Sampled:
        """Up to `num_steps` steps in one native call; see `weft.serve.runner.Runner`."""
        executable = self.executable("generate", adapts="adapters" in inputs)
        stacked = [name for name in _OF_EACH_STEP if name in inputs]
        return _sampled(executable.run_chain(inputs, num_steps, stacked, "tokens", ends))

    def score(self, inputs: Inputs) -> Scored:
        """Computes the rows; log-probabilities of `targets`, and of others with the sampler's inputs."""
        if "int_settings" not in inputs:
            return Scored(self._run("score", inputs)["log_probs"][:, 0])
        outputs = self._run("rank", inputs)
        return Scored(outputs["log_probs"][:, 0], outputs["top_ids"], outputs["top_log_probs"])

    def executable(self, purpose: str, team: int = 0, adapts: bool = False) -> Executable:
        """The plan of `purpose`, for rows with adapters or without, for `team`. Any thread may call it."""
        with self._lock:
            executable = self._executables.get((purpose, team, adapts))
            if executable is None:
                executable = self._executables[purpose, team, adapts] = self._compile(purpose, adapts)
                executable.gate = self.gate
            return executable

    def forget_adapted(self) -> None:
        """Drops the plans for rows with adapters: there are others now. While no step runs."""
        with self._lock:
            self._executables = {key: kept for key, kept in self._executables.items() if not key[2]}

    def close(self) -> None:
        """Gives back threads and memory."""
        self._calls.close()
        self._executables.clear()
        self._release()

    def _run(self, purpose: str, inputs: Inputs) -> dict[str, Array]:
        if self._num_teams == 1 or len(inputs["sequences"]) == 1:
            return self._run_on(purpose, inputs, 0)
        parts = split_inputs(inputs, self._num_teams)
        calls = [
            lambda part=part, team=team: self._run_on(purpose, part, team) for team, part in enumerate(parts)
        ]
        return join_outputs(self._calls.run(calls))

    def _run_on(self, purpose: str, inputs: Inputs, team: int) -> dict[str, Array]:
        adapts = "adapters" in inputs
        executable = self._executables.get((purpose, team, adapts)) or self.executable(purpose, team, adapts)
        given = inputs if self.states is None else self.states.before(inputs)
        tracer = self.tracer  # read once: another thread may take it away
        run = executable.run if tracer is None else partial(tracer.run, executable)
        outputs = run(given, team)
        if self.states is not None:
            self.states.after(inputs, outputs)
        return outputs


def _sampled(outputs: dict[str, Array]) -> Sampled:
    return Sampled(
        outputs["tokens"][:, 0], outputs["log_probs"][:, 0], outputs["top_ids"], outputs["top_log_probs"]
    )
