"""Weights from a model's files: packed once on the pool, kept on disk, read at the next start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weft.config import format_bytes
from weft.errors import ConfigError, ModelFileError, OutOfMemoryError
from weft.io.checkpoint import Checkpoint
from weft.io.kinds import WEIGHT_KINDS
from weft.io.open_checkpoint import fingerprint, open_checkpoint
from weft.io.packed_cache import PackedKey, PackedModel, open_packed, write_packed
from weft.io.tensor_source import TensorSource
from weft.io.text.tokenizer import Tokenizer
from weft.machine import available_memory
from weft.models.config import TokenModelConfig
from weft.models.part_shapes import part_shape
from weft.models.registry import architecture, read_config
from weft.models.weight_spec import Role, WeightSpec
from weft.runtime import Pool, Weight, WeightPart
from weft.types import Array

ModelWeights = dict[str, Weight | Array]

# Changes whenever the same files would be packed into other bytes or under other names.
PACKING_VERSION = 2
# Bytes of an element that is requantized, scales aside.
_TARGET_BYTES = {"f32": 4.0, "bf16": 2.0, "q8": 1.0, "int8": 1.0, "q4": 0.5}
PANEL_LAYOUT = "panels-of-32"  # of all instruction sets


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be planned: configuration, weights by weft name, and what generation needs of its
    files.

    `settings` is config.json, `generation_config` its defaults for sampling. `tokenizer()` builds it once.
    """

    config: TokenModelConfig
    weights: Mapping[str, Weight | Array]
    settings: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    chat_template: str | None
    tokenizer: Callable[[], Tokenizer]


def load_model(path: str | Path, pool: Pool, quant: str | None = None) -> LoadedModel:
    """The model at `path`, a file or a folder, from packed weights on disk where an earlier start left them.

    quant: "f32", "bf16", "q8", "int8" or "q4" requantizes matrices; by default they keep the precision that
    they have in the file. Raises ModelNotFoundError, ModelFileError, UnsupportedError, OutOfMemoryError.
    """
    packed = open_packed(_key(fingerprint(Path(path)), quant))
    if packed is not None and (loaded := _from_packed(packed)) is not None:
        return loaded
    checkpoint = open_checkpoint(path)
    config = read_config(checkpoint.config)
    weights = pack_weights(checkpoint, config, pool, quant)
    return LoadedModel(
        config,
        _keep(checkpoint, weights, quant),
        checkpoint.config,
        checkpoint.generation_config,
        checkpoint.chat_template,
        checkpoint.tokenizer,
    )


def load_weights(
    checkpoint: Checkpoint, pool: Pool, quant: str | None = None
) -> tuple[TokenModelConfig, ModelWeights]:
    """Configuration and weights of an open checkpoint, through the packed weights on disk as `load_model`."""
    config = read_config(checkpoint.config)
    packed = open_packed(_key(checkpoint.identity, quant))
    if packed is not None and (loaded := _from_packed(packed)) is not None:
        return config, dict(loaded.weights)
    return config, _keep(checkpoint, pack_weights(checkpoint, config, pool, quant), quant)


def pack_weights(
    checkpoint: Checkpoint,
    config: TokenModelConfig,
    pool: Pool,
    quant: str | None = None,
    may_interleave: bool = True,
) -> ModelWeights:
    """Packs every weight of the model on the threads of `pool`; pages of the files leave memory as it goes.

    may_interleave: let gate and up alternate, as generation wants them and training does not. Raises
    ModelFileError when a tensor is missing, of an unknown kind, or not of the configured shape.
    """
    specs = list(architecture(config.architecture).weight_specs(config, checkpoint.tensors))
    sources = {spec.name: [_tensor(checkpoint, config, name) for name in spec.parts] for spec in specs}
    check_fits(checkpoint, sources.values(), quant)
    weights: ModelWeights = {}
    for spec in specs:
        if spec.role is Role.VECTOR:
            weights[spec.name] = _vector(spec, sources[spec.name])
        else:
            parts = [_part(source) for source in sources[spec.name]]
            weights[spec.name] = _pack(pool, spec, parts, spec.interleave and may_interleave, quant)
            checkpoint.release()
    return weights


def check_fits(
    checkpoint: Checkpoint,
    sources: Iterable[list[TensorSource]],
    quant: str | None,
    available_bytes: int | None = None,
) -> None:
    """Raises OutOfMemoryError, with the numbers, where the packed weights cannot fit in memory."""
    available = available_memory() if available_bytes is None else available_bytes
    tensors = [source for parts in sources for source in parts]
    needed = sum(int(source.num_elements * _element_bytes(source, quant)) for source in tensors)
    if needed > available:
        raise OutOfMemoryError(
            f"{checkpoint.path}: expected weights that fit in the {format_bytes(available)} of memory that "
            f"are left, got {format_bytes(needed)} of them; take a smaller model or pass quant."
        )


def _element_bytes(source: TensorSource, quant: str | None) -> float:
    """The least that an element takes when packed."""
    kept = source.nbytes / max(source.num_elements, 1)
    return kept if quant is None or len(source.shape) == 1 else _TARGET_BYTES[quant]


def _pack(
    pool: Pool, spec: WeightSpec, parts: list[WeightPart], interleave: bool, quant: str | None
) -> Weight:
    try:
        return Weight.pack(pool, parts, interleave, quant)
    except ConfigError as error:
        raise ModelFileError(f"{' + '.join(spec.parts)}: {error}") from error


def _key(identity: str, quant: str | None) -> PackedKey:
    return PackedKey(identity, PANEL_LAYOUT, quant or "", PACKING_VERSION)


def _tensor(checkpoint: Checkpoint, config: TokenModelConfig, name: str) -> TensorSource:
    source = checkpoint.tensors.get(name)
    if source is None:
        raise ModelFileError(
            f"{checkpoint.path}: expected tensor {name!r}, got {len(checkpoint.tensors)} tensors without it; "
            "take the whole model."
        )
    if source.kind not in WEIGHT_KINDS:
        raise ModelFileError(
            f"{checkpoint.path}: expected {name!r} of a weight kind, got {source.kind}; "
            f"weft reads {', '.join(WEIGHT_KINDS)}; take another file of the same model."
        )
    if source.shape != (expected := part_shape(config, name)):
        raise ModelFileError(
            f"{checkpoint.path}: expected {name!r} of shape {expected} as configured, got {source.shape}; "
            "take files that belong together."
        )
    return source


def _vector(spec: WeightSpec, sources: list[TensorSource]) -> Array:
    parts = [source.dequantize().reshape(-1) for source in sources]
    vector = np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)
    if not np.all(np.isfinite(vector)):
        raise ModelFileError(
            f"Expected finite numbers in {' and '.join(spec.parts)}, got others; "
            "download or copy the model again."
        )
    return vector


def _part(source: TensorSource) -> WeightPart:
    source = source.materialize()
    n, k = source.shape
    return WeightPart(source.kind, n, k, source.data, source.row_order)


def _keep(checkpoint: Checkpoint, weights: ModelWeights, quant: str | None) -> ModelWeights:
    """Writes the packed weights to disk; gives them back as read from there, or as they are where that
    failed.
    """
    key = _key(checkpoint.identity, quant)
    if write_packed(key, checkpoint, _entries(weights)) is None:
        return weights
    packed = open_packed(key)
    loaded = packed and _from_packed(packed)
    return dict(loaded.weights) if loaded else weights


def _entries(weights: ModelWeights) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, weight in weights.items():
        if isinstance(weight, Weight):
            yield name, {"role": Role.MATRIX.value, **weight.header}, weight.packed
        else:
            yield name, {"role": Role.VECTOR.value}, weight


def _from_packed(packed: PackedModel) -> LoadedModel | None:
    """The model of a packed file, or None when this build cannot use it: then it is packed again."""
    try:
        weights = {name: _unpack(entry.header, entry.data) for name, entry in packed.entries.items()}
        config = read_config(packed.config)
    except (KeyError, TypeError, ValueError):
        return None
    return LoadedModel(
        config,
        weights,
        packed.config,
        packed.generation_config,
        packed.chat_template,
        packed.tokenizer,
    )


def _unpack(header: Mapping[str, Any], data: memoryview) -> Weight | Array:
    fields = dict(header)
    if fields.pop("role") == Role.VECTOR.value:
        return np.frombuffer(data, dtype=np.float32)
    return Weight.from_packed(fields, data)
