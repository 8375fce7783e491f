"""Float32 master weights: from a model's files, from nothing, and back to tensors as files hold them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from weft.errors import ModelFileError
from weft.io.checkpoint import Checkpoint
from weft.models.config import ModelConfig, TokenModelConfig
from weft.models.part_shapes import part_shapes, specs_of, weight_shapes
from weft.models.weight_spec import Role, WeightSpec
from weft.types import Array

_EMBEDDING_SCALE = 1.0  # of models without norms, as in torch
_SCALE = 0.02  # of initial weights: Radford et al., 2019
# Layers whose outputs are added to the residual stream: scaled by its number of additions.
_RESIDUAL = ("attention_out", "down")


def load_master_weights(checkpoint: Checkpoint, config: TokenModelConfig) -> dict[str, Array]:
    """The weights of a model's files, by weft's names, whatever their encoding there.

    Raises ModelFileError when a tensor is missing or not of the configured shape.
    """
    weights = {}
    for spec, shape in weight_shapes(config):
        weight = np.empty(shape, np.float32)
        row = 0
        for name in spec.parts:
            part = _part(checkpoint, name)
            if row + len(part) > len(weight) or part.shape[1:] != shape[1:]:
                raise _unfitting(checkpoint, spec, shape)
            weight[row : row + len(part)] = part
            row += len(part)
        if row != len(weight):
            raise _unfitting(checkpoint, spec, shape)
        weights[spec.name] = weight
        checkpoint.release()
    return weights


def _part(checkpoint: Checkpoint, name: str) -> Array:
    source = checkpoint.tensors.get(name)
    if source is None:
        raise ModelFileError(
            f"{checkpoint.path}: expected tensor {name!r}, got {len(checkpoint.tensors)} tensors without it; "
            "take the whole model."
        )
    return source.dequantize()


def _unfitting(checkpoint: Checkpoint, spec: WeightSpec, shape: tuple[int, ...]) -> ModelFileError:
    return ModelFileError(
        f"{checkpoint.path}: expected {' and '.join(spec.parts)} to make {shape}, got other shapes; "
        "take files that belong together."
    )


def initial_weights(config: TokenModelConfig, seed: int) -> dict[str, Array]:
    """Weights to train from scratch: normal matrices, norms of one, biases of zero; by the seed."""
    weights = {}
    for index, (spec, shape) in enumerate(weight_shapes(config)):
        if spec.role is Role.VECTOR:
            value = 0.0 if spec.name.endswith("_bias") else 1.0
            weights[spec.name] = np.full(shape, value, np.float32)
            continue
        scale = _spread(config, spec, shape)
        random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
        weights[spec.name] = random.standard_normal(shape, np.float32) * np.float32(scale)
    return weights


def _spread(config: TokenModelConfig, spec: WeightSpec, shape: tuple[int, ...]) -> float:
    """The standard deviation of a matrix's initial elements."""
    if not isinstance(config, ModelConfig):
        # Without norms, what a layer gives must be of the size of what it takes, as torch begins too.
        return _EMBEDDING_SCALE if spec.name == "embedding" else 1 / math.sqrt(3 * shape[1])
    if spec.name.rsplit(".", 1)[-1] in _RESIDUAL:
        return _SCALE / math.sqrt(2 * config.num_layers)
    return _SCALE


def split_parts(config: TokenModelConfig, weights: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Each tensor of the model's files, by Hugging Face name: views of the weights' rows."""
    shapes = part_shapes(config)
    for spec in specs_of(config):
        row = 0
        for name in spec.parts:
            rows = shapes[name][0]
            yield name, weights[spec.name].reshape(-1, *shapes[name][1:])[row : row + rows]
            row += rows
