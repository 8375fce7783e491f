"""What `weft bench --serve` sends; apart from how, as the command's help is to load no network library."""

from __future__ import annotations

from dataclasses import dataclass

from weft.config import check_count, setting
from weft.errors import ConfigError


@dataclass(frozen=True)
class LoadConfig:
    """What is sent. Raises ConfigError. Lengths are drawn evenly between both ends, in words or tokens."""

    requests: int = setting(64, "--requests", help="With --serve: requests at each rate or number at once.")
    prompt_tokens: str = setting("64-512", "--prompt-tokens", help="With --serve: about so long prompts.")
    answer_tokens: str = setting("64-128", "--answer-tokens", help="With --serve: so long answers.")
    time_limit: float = setting(120.0, "--time-limit", help="With --serve: seconds until an answer failed.")
    load_seed: int = setting(0, "--load-seed", help="With --serve: draws other prompts and arrivals.")

    def __post_init__(self) -> None:
        check_count("requests", self.requests)
        if self.time_limit <= 0:
            raise ConfigError(f"Expected a time limit above 0 s, got {self.time_limit:g}; raise it.")
        for name in ("prompt_tokens", "answer_tokens"):
            span(name, getattr(self, name))


def span(name: str, text: str) -> tuple[int, int]:
    """The ends of a span such as 64-128, or of a single number. Raises ConfigError."""
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and 1 <= int(first) <= int(last or first)):
        raise ConfigError(f"Expected {name} such as 64-128, got {text!r}; write the smaller number first.")
    return int(first), int(last or first)
