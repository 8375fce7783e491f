"""Whether engines computed the same: greedy tokens against the float32 oracle and each other."""

from collections.abc import Sequence
from typing import Any

from peers.process import PeerProcess
from peers.rounds import Series


def common_prefix(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return how many tokens two texts have in common from the start."""
    length = 0
    for mine, yours in zip(ours, theirs, strict=False):
        if mine != yours:
            break
        length += 1
    return length


def agreement(ours: Series, theirs: Series) -> dict[str, Any]:
    """Return the length of the common prefix, shortest and mean over the prompts, and the tokens compared."""
    pairs = list(zip(ours.answer["token_ids"], theirs.answer["token_ids"], strict=True))
    prefixes = [common_prefix(mine, yours) for mine, yours in pairs]
    return {
        "tokens_each": len(pairs[0][0]),
        "common_prefix_mean": sum(prefixes) / len(prefixes),
        "common_prefix_shortest": min(prefixes),
        "prompts_equal": sum(mine == yours for mine, yours in pairs),
        "prompts": len(pairs),
    }


def validate(
    work: str, ours: Series, series: Sequence[Series], oracle: PeerProcess | None
) -> dict[str, dict[str, Any]]:
    """Return, by label, the agreement with `ours` and what the oracle says of every token."""
    result: dict[str, dict[str, Any]] = {}
    for one in series:
        if one.failed:
            continue
        found = {} if ours.failed else agreement(ours, one)
        if oracle is not None:
            found |= oracle.ask(work=work, token_ids=one.answer["token_ids"])
        result[one.label] = found
    return result
