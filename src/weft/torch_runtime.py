"""Plans on torch, on the CPU or a GPU: the oracle of tests, and a way to run elsewhere. Needs the extra
`torch`.

It runs the plain nodes that a plan stands for, over dequantized weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weft.errors import ConfigError, UnsupportedError
from weft.ops.operation import Operation
from weft.plan import Node, Plan, Value, Weights
from weft.plan.reference import operand_array, plain_nodes
from weft.plan.value import PlanOperand
from weft.types import BLOCK_TOKENS, Array, CacheType

DTYPES = ("float32", "float64", "bfloat16")
Tensor = Any  # torch.Tensor, without importing torch


def import_torch() -> Any:
    """The torch package. Raises UnsupportedError when it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UnsupportedError(
            "Expected the torch package, got none; install weft with its extra: pip install 'weft[torch]'."
        ) from error


class TorchExecutable:
    """`plan` on torch `device` in `dtype` ("float32", "float64", "bfloat16"), over `weights` by name.

    Caches hold `num_blocks` blocks, zero at first, and persist from run to run. One thread at a time may
    run it.
    """

    def __init__(
        self,
        plan: Plan,
        weights: Weights,
        num_blocks: int = 64,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(
                f"Expected dtype among {', '.join(DTYPES)}, got {dtype!r}; choose one of these."
            )
        self.torch = import_torch()
        self.plan = plan
        self.device = device
        self.dtype = getattr(self.torch, dtype)
        self.parameters = {name: self._bind(name, weights) for name in plan.parameters}
        self.caches = {
            name: TorchCache(self.torch, state.type, num_blocks, self.dtype, device)
            for name, state in plan.states.items()
        }

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, as float32 or int32 arrays, for arrays [n, columns] of inputs by name."""
        if missing := sorted(set(self.plan.inputs) - set(inputs)):
            raise ConfigError(f"Expected inputs {list(self.plan.inputs)}, got none for {missing}; pass them.")
        values = {value: self._tensor(inputs[name]) for name, value in self.plan.inputs.items()}
        with self.torch.no_grad():
            for node in plain_nodes(self.plan):
                self._run_node(node, values)
        return {name: self._array(self._operand(value, values)) for name, value in self.plan.outputs.items()}

    def _run_node(self, node: Node, values: dict[Value, Tensor]) -> None:
        operands = {name: self._operand(operand, values) for name, operand in node.operands.items()}
        function = FUNCTIONS.get(node.op.name)
        if function is not None:
            results = function(self.torch, node.op, **operands)
        else:
            results = self._run_reference(node.op, operands)
        if not isinstance(results, tuple):
            results = (results,)
        values.update(zip(node.outputs, results, strict=True))

    def _run_reference(self, op: Operation, operands: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        results = op.reference(**{name: self._array(operand) for name, operand in operands.items()})
        return tuple(self._tensor(result) for result in results)

    def _operand(self, operand: PlanOperand, values: Mapping[Value, Tensor]) -> Any:
        return operand_array(operand, self.parameters, self.caches, values)

    def _bind(self, name: str, weights: Weights) -> Tensor:
        content = self.plan.constants.get(name)
        if content is not None:
            # Rotary frequencies: angles need float32 at least, whatever the activations are.
            wide = self.torch.promote_types(self.dtype, self.torch.float32)
            return self.torch.from_numpy(content).to(self.device, wide)
        weight = weights[name]
        content = weight if isinstance(weight, np.ndarray) else weight.dequantize()
        return self._tensor(content)

    def _tensor(self, array: Array) -> Tensor:
        array = np.ascontiguousarray(array)
        if array.dtype == np.uint32:
            array = array.view(np.int32)
        tensor = self.torch.from_numpy(array.copy()).to(self.device)
        return tensor.to(self.dtype) if array.dtype.kind == "f" else tensor

    def _array(self, tensor: Tensor) -> Array:
        if tensor.dtype == self.torch.bfloat16:
            tensor = tensor.float()
        return np.asarray(tensor.cpu().numpy())


class TorchCache:
    """The paged KV cache as tensors [layers, slots, kv_heads, head_dim]."""

    def __init__(self, torch: Any, type_: CacheType, num_blocks: int, dtype: Any, device: str) -> None:
        shape = (type_.layers, num_blocks * BLOCK_TOKENS, type_.kv_heads, type_.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)


def _embedding(torch: Any, op: Any, tokens: Tensor, table: Tensor) -> Tensor:
    return table[tokens[:, 0].long()]


def _rms_norm(torch: Any, op: Any, x: Tensor, weight: Tensor) -> Tensor:
    slices = x.reshape(len(x), op.heads, -1)
    return torch.nn.functional.rms_norm(slices, weight.shape, weight, op.eps).reshape(x.shape)


def _layer_norm(torch: Any, op: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, op.eps)


def _linear(torch: Any, op: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.nn.functional.linear(x, weight, bias)


def _add(torch: Any, op: Any, a: Tensor, b: Tensor) -> Tensor:
    return a + b


def _silu_gate(torch: Any, op: Any, x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=1)
    return torch.nn.functional.silu(gate) * up


def _gelu(torch: Any, op: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x, approximate=op.approximate)


def _rotary(torch: Any, op: Any, x: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    angles = positions.to(inv_freq.dtype) * inv_freq
    cosine, sine = (
        (part * op.attention_scale).to(x.dtype)[:, None, :] for part in (angles.cos(), angles.sin())
    )
    heads = x.reshape(len(x), op.heads, op.head_dim)
    first, second = heads[..., : op.rotary_dim].chunk(2, dim=-1)
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat((*rotated, heads[..., op.rotary_dim :]), dim=-1).reshape(x.shape)


def _kv_write(
    torch: Any, op: Any, k: Tensor, v: Tensor, cache: TorchCache, slots: Tensor
) -> tuple[Tensor, ...]:
    shape = (len(k), op.kv_heads, op.head_dim)
    cache.keys[op.layer, slots[:, 0].long()] = k.reshape(shape)
    cache.values[op.layer, slots[:, 0].long()] = v.reshape(shape)
    return ()


def _attention(
    torch: Any, op: Any, q: Tensor, cache: TorchCache, sequences: Tensor, block_table: Tensor
) -> Tensor:
    out = torch.zeros_like(q)
    for first_row, num_rows, first_position, first_block in sequences.tolist():
        positions = torch.arange(first_position + num_rows, device=q.device)
        blocks = block_table[first_block + positions // BLOCK_TOKENS, 0].long()
        slots = blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS
        rows = slice(first_row, first_row + num_rows)
        heads = (
            q[rows].reshape(num_rows, op.heads, op.head_dim),
            cache.keys[op.layer, slots].repeat_interleave(op.heads // op.kv_heads, dim=1),
            cache.values[op.layer, slots].repeat_interleave(op.heads // op.kv_heads, dim=1),
        )
        queries, keys, values = (part.transpose(0, 1) for part in heads)
        distance = positions[first_position:, None] - positions[None, :]
        visible = distance >= 0
        if op.window:
            visible &= distance < op.window
        mixed = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=visible, scale=op.scale
        )
        out[rows] = mixed.transpose(0, 1).reshape(num_rows, -1)
    return out


def _gather_rows(torch: Any, op: Any, x: Tensor, rows: Tensor) -> Tensor:
    return x[rows[:, 0].long()]


def _log_probs(torch: Any, op: Any, logits: Tensor, targets: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1).gather(1, targets.long())


# What is not here (sample) runs by its NumPy reference.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "attention": _attention,
    "embedding": _embedding,
    "gather_rows": _gather_rows,
    "gelu": _gelu,
    "kv_write": _kv_write,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "log_probs": _log_probs,
    "rms_norm": _rms_norm,
    "rotary": _rotary,
    "silu_gate": _silu_gate,
}
