"""Every operation that has a gradient, beside torch's operations of the same meaning.

Matrices and parameters of a case are tensors by name; a matrix is its tensor's rows in order, so that its
gradient is a tensor's, too. Cases give the values that gradients begin at; torch gives the sum whose
gradients they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from weft import ops
from weft.ops.philox import uniform
from weft.plan import Recorder, Value
from weft.types import Array, DType

ROWS = 30
LENGTHS = (9, 1, 20)
FIRSTS = (0, 9, 10)
SEED, RATE, STREAM = 7, 0.3, 5
COLUMNS = 12  # of the gradient that comes in, unless a case says otherwise


class Given:
    """What a case records with: matrices, parameters and inputs by name."""

    def __init__(self, r: Recorder, matrices: Mapping[str, int]) -> None:
        self.r = r
        rows = r.input("rows")
        self._matrices = {name: ops.embedding(rows, r.weight(name)) for name in matrices}

    def __getitem__(self, name: str) -> Any:
        return self._matrices[name] if name in self._matrices else self.r.weight(name)

    @property
    def sequences(self) -> Value:
        return self.r.input("sequences", "sequences", columns=2)

    def f32(self, name: str, columns: int = 1) -> Value:
        return self.r.input(name, columns=columns, dtype=DType.F32)


@dataclass(frozen=True)
class Case:
    """matrices: columns by name. parameters: shapes by name. ours: where gradients begin; a value alone
    begins with the input d_out. theirs: torch's value, or the sum itself where it is one number.
    """

    matrices: Mapping[str, int]
    ours: Callable[[Given], Any]
    theirs: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    columns: int = COLUMNS

    def seeds(self, r: Recorder) -> Mapping[Value, Value]:
        """Records the case; gives the values that gradients begin at, with the gradients."""
        given = Given(r, self.matrices)
        seeds = self.ours(given)
        if isinstance(seeds, Mapping):
            return seeds
        # Rules may split a gradient, which native plans do not do with inputs.
        return {seeds: ops.scale(given.f32("d_out", self.columns), 1.0)}

    def total(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """torch's number whose gradients are compared."""
        out = self.theirs(tensors)
        return out if out.ndim == 0 else (out * tensors["d_out"]).sum()

    def tensors(self, generator: np.random.Generator) -> dict[str, Array]:
        """Contents of all matrices and parameters, float32."""
        shapes = {name: (ROWS, columns) for name, columns in self.matrices.items()} | dict(self.parameters)
        return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    def inputs(self, generator: np.random.Generator) -> dict[str, Array]:
        """What a run may take, by name."""
        column = lambda values, type_: np.asarray(values, type_).reshape(-1, 1)  # noqa: E731
        return {
            "rows": column(range(ROWS), np.int32),
            "d_out": generator.standard_normal((ROWS, self.columns)).astype(np.float32),
            "sequences": np.array(list(zip(FIRSTS, LENGTHS, strict=True)), np.int32),
            "positions": column([p for length in LENGTHS for p in range(length)], np.int32),
            "tokens": generator.integers(0, 6, (ROWS, 2)).astype(np.int32),
            "targets": column(generator.integers(0, 20, ROWS), np.int32),
            "wanted": generator.standard_normal((ROWS, COLUMNS)).astype(np.float32),
            "loss_weights": generator.choice([0.0, 0.5, 1.5], (ROWS, 1)).astype(np.float32),
            "row_ids": column(range(100, 100 + ROWS), np.int64),
            "seed": np.array([[SEED, 0]], np.uint32),
        }


def _attention(window: int) -> Case:
    def theirs(t: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = []
        for rows in _sequences():
            q, k, v = (t[name][rows].reshape(len(t[name][rows]), -1, 8).transpose(0, 1) for name in "qkv")
            distance = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])
            mask = (distance >= 0) & ((distance < window) if window else True)
            k, v = (part.repeat_interleave(2, 0) for part in (k, v))
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.4)
            parts.append(out.transpose(0, 1).reshape(-1, 32))
        return torch.cat(parts)

    return Case(
        {"q": 32, "k": 16, "v": 16},
        lambda g: ops.sequence_attention(g["q"], g["k"], g["v"], g.sequences, 4, 2, 8, 0.4, window),
        theirs,
        columns=32,
    )


def _adapted(matrices: Mapping[str, int], x: str, inputs: int) -> Case:
    """Two adapters, of ranks 2 and 3, beside a weight of 12 outputs that is trained, too."""

    def ours(g: Given) -> Any:
        parts = [ops.LayerAdapter(0, g["a0"], g["b0"]), ops.LayerAdapter(8, g["a1"], g["b1"])]
        rows = g[x] if x in matrices else g.f32(x, inputs)
        return ops.adapted_linear(rows, g["w"], parts, 0.5, g["b"])

    def theirs(t: dict[str, torch.Tensor]) -> torch.Tensor:
        added = [t[x] @ t[f"a{part}"].T @ t[f"b{part}"].T for part in (0, 1)]
        return F.linear(t[x], t["w"], t["b"]) + 0.5 * torch.cat(added, 1)

    shapes = {"w": (12, inputs), "b": (12,), "a0": (2, inputs), "b0": (8, 2), "a1": (3, inputs), "b1": (4, 3)}
    return Case(matrices, ours, theirs, shapes)


def _rotary() -> Case:
    frequencies = np.array([1.0, 0.25], np.float32)

    def theirs(t: dict[str, torch.Tensor]) -> torch.Tensor:
        x = t["x"].reshape(ROWS, 2, 6)
        angles = t["positions"].to(x.dtype)[:, None] * torch.tensor(frequencies).to(x.dtype)
        turn = torch.polar(torch.full_like(angles, 1.5), angles)[:, None]
        turned = torch.complex(x[..., :2].contiguous(), x[..., 2:4].contiguous()) * turn
        return torch.cat((turned.real, turned.imag, x[..., 4:]), dim=-1).reshape(ROWS, 12)

    return Case(
        {"x": 12},
        lambda g: ops.rotary(
            g["x"], g.r.input("positions"), g.r.constant("inv_freq", frequencies), 2, 6, 4, 1.5
        ),
        theirs,
    )


def _lstm() -> Case:
    def theirs(t: dict[str, torch.Tensor]) -> torch.Tensor:
        w, x = t["w"], t["x"]
        flat = [torch.eye(48, dtype=x.dtype), w, *(torch.zeros(48, dtype=x.dtype) for _ in range(2))]
        start = torch.zeros(1, 1, 12, dtype=x.dtype)
        run = lambda rows: torch._VF.lstm(  # noqa: E731
            x[rows][:, None], (start, start), flat, True, 1, 0.0, False, False, False
        )
        return torch.cat([run(rows)[0][:, 0] for rows in _sequences()])

    return Case({"x": 48}, lambda g: ops.lstm(g["x"], g["w"], g.sequences), theirs, {"w": (48, 12)})


def _dropout() -> Case:
    drawn = [[uniform(SEED, STREAM, (100 + r) * 12 + c) for c in range(12)] for r in range(ROWS)]
    factor = torch.tensor(np.where(np.array(drawn) >= RATE, 1 / (1 - RATE), 0.0))

    def ours(g: Given) -> Value:
        ids = g.r.input("row_ids", dtype=DType.I64)
        return ops.dropout(g["x"], ids, g.r.input("seed", "seeds", columns=2, dtype=DType.U32), RATE, STREAM)

    return Case({"x": 12}, ours, lambda t: t["x"] * factor.to(t["x"].dtype))


def _cross_entropy(smoothing: float, z_loss: float) -> Case:
    def ours(g: Given) -> Mapping[Value, Value]:
        targets, weights, d_head = g.r.input("targets"), g.f32("loss_weights"), g.r.gradient(g["head"])
        result = ops.cross_entropy_grad(g["x"], g["head"], targets, weights, d_head, smoothing, z_loss)
        return {g["x"]: result[2]}

    def theirs(t: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = t["x"] @ t["head"].T
        losses = F.cross_entropy(logits, t["targets"], reduction="none", label_smoothing=smoothing)
        return (t["loss_weights"] * (losses + z_loss * torch.logsumexp(logits, 1) ** 2)).sum()

    return Case({"x": 12}, ours, theirs, {"head": (20, 12)})


def _squared_error() -> Case:
    def ours(g: Given) -> Mapping[Value, Value]:
        return {g["x"]: ops.squared_error(g["x"], g.f32("wanted", COLUMNS), g.f32("loss_weights"))[1]}

    return Case(
        {"x": 12}, ours, lambda t: (t["loss_weights"] * ((t["x"] - t["wanted"]) ** 2).mean(dim=1)).sum()
    )


def _shifted(t: dict[str, torch.Tensor]) -> torch.Tensor:
    zeros = torch.zeros(1, 12, dtype=t["x"].dtype)
    return torch.cat([torch.cat((zeros, t["x"][rows][:-1])) for rows in _sequences()])


def _sequences() -> list[slice]:
    return [slice(first, first + count) for first, count in zip(FIRSTS, LENGTHS, strict=True)]


CASES = {
    "add": Case({"a": 12, "b": 12}, lambda g: ops.add(g["a"], g["b"]), lambda t: t["a"] + t["b"]),
    "one matrix twice": Case({"a": 12}, lambda g: ops.add(g["a"], g["a"]), lambda t: 2 * t["a"]),
    "concat": Case(
        {"a": 5, "b": 7}, lambda g: ops.concat(g["a"], g["b"]), lambda t: torch.cat((t["a"], t["b"]), 1)
    ),
    "scale": Case({"x": 12}, lambda g: ops.scale(g["x"], -2.5), lambda t: -2.5 * t["x"]),
    "tanh": Case({"x": 12}, lambda g: ops.tanh(g["x"]), lambda t: torch.tanh(t["x"])),
    "gelu": Case({"x": 12}, lambda g: ops.gelu(g["x"]), lambda t: F.gelu(t["x"])),
    "gelu by tanh": Case(
        {"x": 12}, lambda g: ops.gelu(g["x"], "tanh"), lambda t: F.gelu(t["x"], approximate="tanh")
    ),
    "silu_gate": Case(
        {"x": 24}, lambda g: ops.silu_gate(g["x"]), lambda t: F.silu(t["x"][:, :12]) * t["x"][:, 12:]
    ),
    "linear": Case(
        {"x": 7},
        lambda g: ops.linear(g["x"], g["w"], g["b"]),
        lambda t: F.linear(t["x"], t["w"], t["b"]),
        {"w": (12, 7), "b": (12,)},
    ),
    "linear without bias": Case(
        {"x": 7}, lambda g: ops.linear(g["x"], g["w"]), lambda t: F.linear(t["x"], t["w"]), {"w": (12, 7)}
    ),
    "adapted_linear": _adapted({"x": 7}, "x", 7),
    "adapted_linear of an input": _adapted({}, "wanted", COLUMNS),
    "embedding": Case(
        {},
        lambda g: ops.embedding(g.r.input("tokens", columns=2), g["table"]),
        lambda t: t["table"][t["tokens"]].reshape(ROWS, 12),
        {"table": (6, 6)},
    ),
    "rms_norm": Case(
        {"x": 12},
        lambda g: ops.rms_norm(g["x"], g["w"], 1e-2),
        lambda t: F.rms_norm(t["x"], (12,), t["w"], 1e-2),
        {"w": (12,)},
    ),
    "rms_norm by heads": Case(
        {"x": 12},
        lambda g: ops.rms_norm(g["x"], g["w"], 1e-2, heads=3),
        lambda t: F.rms_norm(t["x"].reshape(ROWS, 3, 4), (4,), t["w"], 1e-2).reshape(ROWS, 12),
        {"w": (4,)},
    ),
    "layer_norm": Case(
        {"x": 12},
        lambda g: ops.layer_norm(g["x"], g["w"], g["b"], 1e-2),
        lambda t: F.layer_norm(t["x"], (12,), t["w"], t["b"], 1e-2),
        {"w": (12,), "b": (12,)},
    ),
    "rotary": _rotary(),
    "sequence_attention": _attention(0),
    "sequence_attention in a window": _attention(4),
    "lstm": _lstm(),
    "dropout": _dropout(),
    "cross_entropy": _cross_entropy(0.0, 0.0),
    "cross_entropy, smoothed": _cross_entropy(0.1, 1e-2),
    "squared_error": _squared_error(),
}
