"""Settings as frozen dataclasses: each default in one place, from which flags and reference texts are made.

A field made by `setting` carries its command-line flags and its help; `weft.cli.options` turns fields into
flags and each flag into its environment twin WEFT_<FLAG>.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from weft.errors import ConfigError

QUANT_KINDS = ("f32", "bf16", "q8", "int8", "q4")
KV_DTYPES = ("f16", "bf16", "f32")

# The largest value of each count that is not a slip of the keyboard.
_MOST = {
    "threads": 1024,
    "teams": 1024,
    "max_context": 1 << 31,
    "max_rows": 1 << 16,
    "max_running": 1 << 16,
}
_PLAIN = (int, float, bool, str, tuple, dict)
_MAX_BYTES = 1 << 62
_BYTE_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY_UNITS = {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}


def setting(default: Any, *flags: str, help: str, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with its command-line `flags`, its `help` and the values it may take."""
    return field(default=default, metadata={"flags": flags, "help": help, "choices": choices})


def plain_number(value: Any) -> Any:
    """A number of another library, such as NumPy's, as Python's own; anything else as it is."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, Integral) else value


@dataclass(frozen=True)
class EngineConfig:
    """How a model is loaded and run. Raises ConfigError for a value that cannot be."""

    threads: int | None = setting(
        None, "-t", "--threads", help="Threads to compute with; by default what the machine grants."
    )
    teams: int = setting(1, "--teams", help="Teams that the threads are split into.")
    quant: str | None = setting(
        None,
        "--quant",
        choices=QUANT_KINDS,
        help="Requantize the weights at load; by default as in the file. int8, one scale a row, is the "
        "quickest for batches and prompts.",
    )
    kv_dtype: str | None = setting(
        None,
        "--kv-dtype",
        choices=KV_DTYPES,
        help="Element type of the KV cache; by default bf16 where the processor multiplies it and the "
        "weights are not float32, else f16.",
    )
    max_context: int | None = setting(
        None,
        "-c",
        "--max-context",
        "--ctx-size",
        help="Longest text of one request, in tokens; by default the model's own.",
    )
    kv_memory: int | str | None = setting(
        None, "--kv-memory", help="Memory for the KV cache, such as 512MiB; by default what fits well."
    )
    max_rows: int = setting(512, "--max-rows", help="Most tokens in one step, prompts and answers together.")
    max_running: int = setting(
        256,
        "--max-running",
        help="Most requests that run at once; at most half of --max-rows, so that prompts go on.",
    )
    draft_max: int = setting(
        16,
        "--draft-max",
        help="Most tokens guessed ahead from the text so far, where that measures faster; 0 for none.",
    )

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if getattr(self, name) is not None or name not in ("threads", "max_context"):
                check_count(name, getattr(self, name), most)
        if not isinstance(self.draft_max, int) or isinstance(self.draft_max, bool) or self.draft_max < 0:
            raise ConfigError(
                f"Expected draft_max to be a whole number of at least 0, got {self.draft_max!r}; raise it."
            )
        check_choice("quant", self.quant, (None, *QUANT_KINDS))
        check_choice("kv_dtype", self.kv_dtype, (None, *KV_DTYPES))
        if self.threads is not None and self.teams > self.threads:
            raise ConfigError(
                f"Expected at most one team a thread, got {self.teams} teams of {self.threads} threads; "
                "lower teams or raise threads."
            )
        if self.kv_memory is not None:
            object.__setattr__(self, "kv_memory", parse_bytes(self.kv_memory))

    @property
    def kv_memory_bytes(self) -> int | None:
        """The KV cache's memory in bytes, or None where it was left to weft."""
        return None if self.kv_memory is None else parse_bytes(self.kv_memory)


def check_count(name: str, value: object, most: int | None = None) -> None:
    """Raises ConfigError unless `value` is a whole number of at least one, and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"Expected {name} to be a whole number of at least 1, got {value!r}; raise it.")
    if most is not None and value > most:
        raise ConfigError(f"Expected {name} of at most {most}, got {value}; lower it.")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join("none" if choice is None else str(choice) for choice in choices)
        raise ConfigError(f"Expected {name} to be one of {listed}, got {value!r}; choose one of them.")


def parse_bytes(value: int | str) -> int:
    """Bytes of a number or of a text such as "512MiB", "2 GB", "1.5g". Raises ConfigError."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", str(value).lower())
    units = {**_BYTE_UNITS, **_BINARY_UNITS}
    if match is None or match[2] not in units or float(match[1]) == 0:
        raise ConfigError(f"Expected a size in bytes such as 512MiB or 2GB, got {value!r}; write it so.")
    count = float(match[1]) * units[match[2]]
    if count > _MAX_BYTES:
        raise ConfigError(f"Expected a size of less than 4 EiB, got {str(value)[:60]!r}; lower it.")
    return int(count)


def format_bytes(count: float) -> str:
    """`count` bytes for people, such as 1.5 GiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
