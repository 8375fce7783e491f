"""Load against a server: requests at a rate, or a number of them at once, and what their senders saw."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from weft.errors import ConfigError
from weft.tasks.load_client import Outcome, Target, complete, fetch
from weft.tasks.load_config import LoadConfig, span

FIRST_TOKEN_LIMIT_S = 2.0
BETWEEN_TOKENS_LIMIT_S = 0.1
# Short common words, which most tokenizers have as one token each.
_TEXT = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work number night point home water "
    "room mother area money story fact month lot right study book eye job word business issue side kind "
    "head house service friend father power hour game line end member law car city community name"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Load:
    """How requests arrive: at `rate` a second, at random and whatever became of those before (a Poisson
    process), or always `at_once` of them.
    """

    rate: float | None = None
    at_once: int | None = None

    def __str__(self) -> str:
        return f"{self.rate:g}/s" if self.rate is not None else f"{self.at_once} at once"


async def probe(target: Target, model: str | None) -> dict[str, Any]:
    """Fields of requests that the server takes, found by trying them. Raises ConfigError for none."""
    try:
        name = model or (await fetch(target, "/v1/models"))["data"][0]["id"]
    except (OSError, ValueError, LookupError, asyncio.IncompleteReadError) as error:
        raise ConfigError(
            f"Expected OpenAI's API at {target.host}:{target.port}, got {error}; check URL and key."
        ) from error
    base = {"model": name, "stream": True, "temperature": 0}
    outcome = Outcome(0.0)
    for extra in ({"ignore_eos": True, "stream_options": {"include_usage": True}}, {"ignore_eos": True}, {}):
        outcome = await complete(target, {**base, **extra, "prompt": "one two", "max_tokens": 2}, 60.0)
        if outcome.failure is None:
            return {**base, **extra}
    raise ConfigError(f"Expected an answer from the server, got {outcome.failure}; check model and key.")


async def run_load(
    target: Target, fields: dict[str, Any], load: Load, config: LoadConfig, show: Callable[[str], None]
) -> dict[str, Any]:
    """Sends all requests and gives the numbers of `summary`."""
    draw = random.Random(f"{config.load_seed} {load}")
    bodies = [{**fields, **_body(draw, config)} for _ in range(config.requests)]
    outcomes: list[Outcome] = []

    async def send(body: dict[str, Any]) -> None:
        outcomes.append(await complete(target, body, config.time_limit))
        show(f"{load}: {len(outcomes)} of {config.requests} answered")

    begin = time.perf_counter()
    if load.rate is not None:
        async with asyncio.TaskGroup() as group:
            due = begin
            for body in bodies:
                due += draw.expovariate(load.rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(send(body))
    else:
        waiting = iter(bodies)

        async def sender() -> None:
            for body in waiting:
                await send(body)

        async with asyncio.TaskGroup() as group:
            for _ in range(load.at_once or 1):
                group.create_task(sender())
    return {"load": str(load), **summary(outcomes, time.perf_counter() - begin)}


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Rates, and mean, median, 95th and 99th percentile of times in seconds.

    goodput_per_s: of the answers that began within `FIRST_TOKEN_LIMIT_S`, and whose 95th percentile of the
    time between pieces is within `BETWEEN_TOKENS_LIMIT_S`.
    """
    whole = [outcome for outcome in outcomes if outcome.failure is None]
    good = [
        outcome
        for outcome in whole
        if outcome.pieces[0] <= FIRST_TOKEN_LIMIT_S
        and percentile(outcome.gaps or [0.0], 95) <= BETWEEN_TOKENS_LIMIT_S
    ]
    return {
        "requests": len(outcomes),
        "failures": len(outcomes) - len(whole),
        "failure_reasons": dict(Counter(str(o.failure) for o in outcomes if o.failure).most_common(5)),
        "seconds": seconds,
        "requests_per_s": len(whole) / seconds,
        "goodput_per_s": len(good) / seconds,
        "good_share": len(good) / max(len(outcomes), 1),
        "prompt_tokens": sum(outcome.prompt_tokens for outcome in whole),
        "answer_tokens": sum(outcome.tokens for outcome in whole),
        "answer_tokens_per_s": sum(outcome.tokens for outcome in whole) / seconds,
        "first_token_s": _times([outcome.pieces[0] for outcome in whole]),
        "between_tokens_s": _times([gap for outcome in whole for gap in outcome.gaps]),
        "whole_s": _times([outcome.ended for outcome in whole]),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank) - 1, 0)]


def _times(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    named = {f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)}
    return {"mean": sum(values) / len(values), "median": named.pop("p50"), **named}


def _body(draw: random.Random, config: LoadConfig) -> dict[str, Any]:
    length = draw.randint(*span("prompt_tokens", config.prompt_tokens))
    words = " ".join(draw.choice(_WORDS) for _ in range(length))
    return {"prompt": words, "max_tokens": draw.randint(*span("answer_tokens", config.answer_tokens))}
