"""Rotary frequencies and the scalings that stretch them to longer contexts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.errors import ModelFileError, UnsupportedError
from weft.models.config import Settings, setting
from weft.types import Array

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


@dataclass(frozen=True)
class RopeConfig:
    """Base and scaling of rotary positions. `scaling` holds the kind's own parameters, in Hugging Face's
    terms.
    """

    theta: float
    rotary_dim: int
    max_context: int
    kind: str
    scaling: Mapping[str, Any]


@dataclass(frozen=True)
class RotaryFrequencies:
    """Angles per position, float32 [rotary_dim / 2], and the factor on cosine and sine."""

    inv_freq: Array
    attention_scale: float


def read_rope(settings: Settings, head_dim: int, max_context: int) -> RopeConfig:
    """The rotary part of a configuration. Raises ModelFileError, or UnsupportedError for an unknown
    scaling.
    """
    scaling = _parameters(settings, "rope_parameters") | _parameters(settings, "rope_scaling")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in KINDS:
        raise UnsupportedError(
            f"Expected a rotary scaling among {', '.join(KINDS)}, got {str(kind)[:40]!r}; choose "
            "another model."
        )
    theta = setting(settings, "rope_theta", float, scaling.get("rope_theta", 10000.0))
    share = setting(settings, "partial_rotary_factor", float, scaling.get("partial_rotary_factor", 1.0))
    rotary_dim = int(head_dim * share)
    if theta <= 0 or rotary_dim < 2 or rotary_dim % 2 or rotary_dim > head_dim:
        raise ModelFileError(
            f"Expected a positive rope_theta and an even share of {head_dim} features, got {theta} "
            f"and {rotary_dim}; "
            "correct the configuration."
        )
    return RopeConfig(theta, rotary_dim, max_context, kind, scaling)


def _parameters(settings: Settings, name: str) -> dict[str, Any]:
    return dict(setting(settings, name, dict, {}))


def rotary_frequencies(rope: RopeConfig, context: int | None = None) -> RotaryFrequencies:
    """Frequencies for runs of up to `context` tokens (by default the model's own limit).

    "dynamic" and "longrope" depend on the context: here on the longest that will run, so that cached keys
    stay valid while a text grows. Formulas: Chen et al., 2023 (linear); bloc97, 2023 (dynamic); Meta, Llama
    3.1; Peng et al., 2023 (YaRN); Ding et al., 2024 (LongRoPE). Raises ModelFileError for missing
    parameters.
    """
    context = context or rope.max_context
    plain = _plain(rope.theta, rope.rotary_dim)
    match rope.kind:
        case "linear":
            inv_freq, scale = plain / _factor(rope), 1.0
        case "dynamic":
            inv_freq, scale = _dynamic(rope, context), 1.0
        case "llama3":
            inv_freq, scale = _llama3(rope, plain), 1.0
        case "yarn":
            inv_freq, scale = _yarn(rope, plain)
        case "longrope":
            inv_freq, scale = _longrope(rope, plain, context)
        case _:
            inv_freq, scale = plain, 1.0
    return RotaryFrequencies(inv_freq.astype(np.float32), scale)


def _plain(theta: float, rotary_dim: int) -> Array:
    return np.asarray(theta ** -(np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim))


def _factor(rope: RopeConfig) -> float:
    factor = setting(rope.scaling, "factor", float)
    if not 1 <= factor < math.inf:
        raise ModelFileError(
            f"Expected a finite rotary factor of at least 1, got {factor}; correct the configuration."
        )
    return float(factor)


def _original_context(rope: RopeConfig) -> int:
    original = setting(rope.scaling, "original_max_position_embeddings", int, rope.max_context)
    if original < 1:
        raise ModelFileError(
            f"Expected an original context of at least 1, got {original}; correct the configuration."
        )
    return int(original)


def _dynamic(rope: RopeConfig, context: int) -> Array:
    factor, trained = _factor(rope), _original_context(rope)
    stretch = factor * max(context, trained) / trained - (factor - 1)
    theta = rope.theta * stretch ** (rope.rotary_dim / (rope.rotary_dim - 2)) if stretch > 1 else rope.theta
    return _plain(theta, rope.rotary_dim)


def _llama3(rope: RopeConfig, plain: Array) -> Array:
    factor = _factor(rope)
    low = setting(rope.scaling, "low_freq_factor", float)
    high = setting(rope.scaling, "high_freq_factor", float)
    if high <= low:
        raise ModelFileError(f"Expected high_freq_factor above {low}, got {high}; correct the configuration.")
    turns = _original_context(rope) * plain / (2 * math.pi)
    # Below `low` turns within the trained context a frequency is divided, above `high` kept; blended between.
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray((1 - kept) * plain / factor + kept * plain)


def _yarn(rope: RopeConfig, plain: Array) -> tuple[Array, float]:
    factor, original = _factor(rope), _original_context(rope)
    fast = setting(rope.scaling, "beta_fast", float, 32.0)
    slow = setting(rope.scaling, "beta_slow", float, 1.0)
    first, last = (_index_of_turns(rope, turns, original) for turns in (fast, slow))
    if setting(rope.scaling, "truncate", bool, True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.rotary_dim - 1)
    ramp = (np.arange(len(plain)) - first) / max(last - first, 0.001)
    kept = 1 - np.clip(ramp, 0, 1)
    return np.asarray((1 - kept) * plain / factor + kept * plain), _yarn_scale(rope, factor)


def _index_of_turns(rope: RopeConfig, turns: float, context: int) -> float:
    """The (fractional) index of the frequency that turns `turns` times within `context` tokens."""
    return rope.rotary_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))


def _yarn_scale(rope: RopeConfig, factor: float) -> float:
    given = rope.scaling.get("attention_factor")
    if given is not None:
        return float(setting(rope.scaling, "attention_factor", float))
    scales = [setting(rope.scaling, name, float, 0.0) for name in ("mscale", "mscale_all_dim")]
    if all(scales):
        return float(_magnitude(factor, scales[0]) / _magnitude(factor, scales[1]))
    return _magnitude(factor, 1.0)


def _magnitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(rope: RopeConfig, plain: Array, context: int) -> tuple[Array, float]:
    original = _original_context(rope)
    name = "long_factor" if context > original else "short_factor"
    divisors = np.asarray(setting(rope.scaling, name, list), dtype=np.float64)
    if divisors.shape != plain.shape or not np.all(divisors > 0):
        raise ModelFileError(
            f"Expected {len(plain)} positive numbers in {name}, got {divisors.shape}; correct them."
        )
    if rope.scaling.get("attention_factor") is not None:
        return plain / divisors, float(setting(rope.scaling, "attention_factor", float))
    factor = setting(rope.scaling, "factor", float, rope.max_context / original)
    scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return plain / divisors, scale
