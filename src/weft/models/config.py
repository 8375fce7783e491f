"""What all architectures share of a model's configuration, and reading it from Hugging Face's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import ModelFileError
from weft.types import CacheType, DType

Settings = Mapping[str, Any]
"""A config.json as a dictionary."""


@dataclass(frozen=True)
class TokenModelConfig:
    """What every model that foretells tokens has: its name, and the sizes of its ends."""

    architecture: str
    vocabulary_size: int
    features: int
    max_context: int
    tied_head: bool


@dataclass(frozen=True)
class ModelConfig(TokenModelConfig):
    """Sizes that plans, caches and schedulers need of a model with attention. Legend: see `weft.types`.

    `windows` has for each layer the number of tokens that a row attends to, 0 for all of them.
    """

    hidden_features: int
    num_layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    windows: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ModelFileError(
                    f"Expected {name} of at least 1 in the configuration, got {getattr(self, name)}; "
                    "correct the file."
                )
        if self.heads % self.kv_heads:
            raise ModelFileError(
                f"Expected heads in groups for {self.kv_heads} key/value heads, got {self.heads}; "
                "correct the file."
            )
        if len(self.windows) != self.num_layers:
            raise ModelFileError(
                f"Expected attention settings for {self.num_layers} layers, got {len(self.windows)}; "
                "correct the file."
            )

    def cache_type(self, dtype: DType = DType.F16) -> CacheType:
        """The KV cache that this model needs."""
        return CacheType(self.num_layers, self.kv_heads, self.head_dim, dtype)


_MAX_WINDOW = (1 << 31) - 1
_COUNTS = (
    "vocabulary_size",
    "features",
    "hidden_features",
    "num_layers",
    "heads",
    "kv_heads",
    "head_dim",
    "max_context",
)


def setting(settings: Settings, name: str, type_: type, default: Any = None) -> Any:
    """Setting `name`, which must be of `type_`; `default` where it is missing or null.

    Raises ModelFileError when it is of another type, or missing without a default.
    """
    value = settings.get(name)
    if value is None:
        value = default
    if type_ is float and type(value) is int:
        value = float(value)
    if type(value) is not type_:
        raise ModelFileError(
            f"Expected {name} in the configuration to be {type_.__name__}, got {str(value)[:60]!r}; "
            "take the model's own config.json."
        )
    return value


def layer_windows(
    settings: Settings, num_layers: int, window: int | None, first_layer: int = 0
) -> tuple[int, ...]:
    """The window of each layer: by `layer_types` where the settings list them, else from `first_layer` on."""
    size = window or 0
    if not 0 <= size <= _MAX_WINDOW:
        raise ModelFileError(
            f"Expected sliding_window from 0 to {_MAX_WINDOW} tokens, got {size}; correct the file."
        )
    kinds = settings.get("layer_types")
    if not isinstance(kinds, list):
        return tuple(size if layer >= first_layer else 0 for layer in range(num_layers))
    if unknown := sorted({str(kind) for kind in kinds} - {"full_attention", "sliding_attention"}):
        raise ModelFileError(
            f"Expected layers of full or sliding attention, got {unknown}; weft has no other kinds."
        )
    if "sliding_attention" in kinds and not size:
        raise ModelFileError(
            "Expected sliding_window for layers of sliding attention, got none; correct the file."
        )
    return tuple(size if kind == "sliding_attention" else 0 for kind in kinds)
