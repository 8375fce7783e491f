"""The same small model twice: as weft's configuration with float32 weights, and as torch parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from support import tiny_models
from support.plain_weight import PlainWeight, plain_model
from torch.nn import functional as F

from weft.models.config import TokenModelConfig
from weft.models.part_shapes import weight_shapes
from weft.models.registry import read_config
from weft.train.data.slices import Slice
from weft.train.model_trainable import last_tokens
from weft.types import Array

LSTM = {
    "model_type": "lstm",
    "vocab_size": 101,
    "embedding_size": 24,
    "hidden_size": 40,
    "num_hidden_layers": 2,
}
PERCEPTRON = {
    "model_type": "perceptron",
    "vocab_size": 101,
    "embedding_size": 24,
    "hidden_size": 40,
    "window": 3,
}


@dataclass(frozen=True)
class Twin:
    """weights: to begin with, by weft's names. parameters: torch's. losses: of each row of a slice."""

    config: TokenModelConfig
    weights: dict[str, Array]
    parameters: list[torch.Tensor]
    losses: Callable[[Slice], torch.Tensor]


def make_twin(name: str) -> Twin:
    """Twins of "lstm", "perceptron" or a model of `tiny_models`."""
    match name:
        case "lstm":
            return _functional(LSTM, _lstm_features)
        case "perceptron":
            return _functional(PERCEPTRON, _perceptron_features)
        case _:
            return _transformer(tiny_models.make(name))


def _transformer(model: Any) -> Twin:
    config, plain = plain_model(model)
    weights = {
        name: np.array(weight.content if isinstance(weight, PlainWeight) else weight)
        for name, weight in plain.items()
    }

    def losses(part: Slice) -> torch.Tensor:
        found = []
        for first, count in part.sequences.tolist():
            tokens = torch.tensor(part.tokens[first : first + count].T.astype(np.int64))
            found.append(_cross_entropy(model(tokens).logits[0], part.targets[first : first + count]))
        return torch.cat(found)

    return Twin(config, weights, list(model.parameters()), losses)


def _functional(settings: dict[str, Any], features: Callable[..., torch.Tensor]) -> Twin:
    config, generator = read_config(settings), np.random.default_rng(5)
    weights = {
        spec.name: (generator.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        for spec, shape in weight_shapes(config)
    }
    own = {name: torch.tensor(weight).requires_grad_() for name, weight in weights.items()}

    def losses(part: Slice) -> torch.Tensor:
        return _cross_entropy(features(own, part, settings) @ own["head"].T, part.targets)

    return Twin(config, weights, list(own.values()), losses)


def _lstm_features(own: dict[str, torch.Tensor], part: Slice, settings: dict[str, Any]) -> torch.Tensor:
    layers, hidden, flat = settings["num_hidden_layers"], settings["hidden_size"], []
    for layer in range(layers):
        names = (f"layers.{layer}.{kind}" for kind in ("input", "recurrent", "input_bias"))
        flat += [*(own[name] for name in names), torch.zeros(4 * hidden)]
    embedded, outputs = own["embedding"][part.tokens[:, 0]], []
    for first, count in part.sequences.tolist():
        start = torch.zeros(layers, 1, hidden)
        x = embedded[first : first + count, None]
        if torch.is_autocast_enabled("cpu"):  # torch has no such LSTM for every processor
            outputs.append(_lstm_by_products(own, x, layers))
        else:
            outputs.append(torch._VF.lstm(x, (start, start), flat, True, layers, 0.0, False, False, False)[0])
    return torch.cat([out[:, 0] for out in outputs])


def _lstm_by_products(own: dict[str, torch.Tensor], x: torch.Tensor, layers: int) -> torch.Tensor:
    """The LSTM of x [T, 1, D] from torch's linear layers, which round as autocast says."""
    for layer in range(layers):
        into, recurrent, bias = (
            own[f"layers.{layer}.{kind}"] for kind in ("input", "recurrent", "input_bias")
        )
        h = c = torch.zeros(1, recurrent.shape[1])
        rows = []
        for given in F.linear(x, into, bias):
            i, f, g, o = (given + F.linear(h, recurrent)).float().chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            rows.append(h)
        x = torch.stack(rows)
    return x


def _perceptron_features(own: dict[str, torch.Tensor], part: Slice, settings: dict[str, Any]) -> torch.Tensor:
    windows = last_tokens(part.tokens, part.sequences, settings["window"])
    x = own["embedding"][torch.tensor(windows).long()].reshape(len(windows), -1)
    return torch.tanh(x @ own["hidden"].T + own["hidden_bias"])


def _cross_entropy(logits: torch.Tensor, targets: Array) -> torch.Tensor:
    return F.cross_entropy(logits.float(), torch.tensor(targets[:, 0].astype(np.int64)), reduction="none")


def make_batch(step: int, sequences: int = 4, length: int = 16, per_slice: int = 1) -> list[Slice]:
    """Slices of a step: sequences of different lengths in which each token mostly follows from the last."""
    generator = np.random.default_rng(step)
    slices, rows = [], 0
    for _ in range(sequences // per_slice):
        lengths = generator.integers(length // 2, length + 1, per_slice)
        texts = [_text(generator, count + 1) for count in lengths]
        column = lambda parts, type_: np.concatenate(parts).astype(type_)[:, None]  # noqa: E731
        count = int(lengths.sum())
        slices.append(
            Slice(
                column([text[:-1] for text in texts], np.int32),
                column([text[1:] for text in texts], np.int32),
                column([np.arange(number) for number in lengths], np.int32),
                np.full((count, 1), 1.0 / (sequences * length), np.float32),
                np.stack([np.cumsum(lengths) - lengths, lengths], axis=1).astype(np.int32),
                np.arange(rows, rows + count, dtype=np.int64)[:, None],
            )
        )
        rows += count
    return slices


def _text(generator: np.random.Generator, length: int) -> Array:
    tokens = [int(generator.integers(101))]
    while len(tokens) < length:
        follows = (7 * tokens[-1] + 3) % 101 if generator.random() < 0.8 else generator.integers(101)
        tokens.append(int(follows))
    return np.array(tokens)
