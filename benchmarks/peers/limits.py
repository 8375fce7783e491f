"""What the measured limits of the machine allow for each work, from weft's measurement and plan costs."""

from typing import Any

from peers.lock import MeasuringLock
from peers.open_model import open_model
from peers.prompts import WORKS, Work

from weft.machine import MachineLimits
from weft.plan import Plan
from weft.plan.roofline import least_seconds
from weft.tasks.bench import machine_limits


def limit_rates(model: str, works: list[str], threads: int, lock: MeasuringLock) -> dict[str, Any]:
    """Return by work the tokens a second that the limits allow with this model's weights, and the limits."""
    with lock.hold():
        limits = machine_limits([threads])[threads]
    with open_model(model, threads=threads) as loaded:
        plan = loaded.runner.executable("generate").plan
    rates = {name: limit_rate(plan, name, WORKS[name], limits) for name in works}
    return {"threads": threads, "tokens_per_second": rates, "limits": vars(limits)}


def limit_rate(plan: Plan, name: str, work: Work, limits: MachineLimits) -> float:
    """Return tokens a second, counted as the comparison counts them: decode1 leaves out the prompt."""
    sequences = len(work.prompts)
    length = work.prompt_tokens / sequences
    prompt = {"rows": work.prompt_tokens, "context": (length + 1) / 2}
    step = {"rows": sequences, "context": length + work.max_tokens / 2}
    shared = {"outputs": sequences, "sequences": sequences}
    prompt_seconds = least_seconds(plan, shared | prompt, limits)
    step_seconds = least_seconds(plan, shared | step, limits)
    if name == "prompt512":
        return work.prompt_tokens / prompt_seconds
    if name == "decode1":
        return sequences / step_seconds
    return work.new_tokens / (prompt_seconds + (work.max_tokens - 1) * step_seconds)
