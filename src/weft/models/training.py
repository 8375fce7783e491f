"""From a configuration and tensors to plans of training and of evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from weft import ops
from weft.models.adapter import AdapterSettings, adapted_linear, has_adapter
from weft.models.config import ModelConfig, TokenModelConfig
from weft.models.layers import head_name
from weft.models.registry import architecture
from weft.ops import Matrix
from weft.ops.operation import Operand
from weft.plan import Parameter, Plan, Recorder, Value, Weights, freeze
from weft.plan.backward import backward, recompute_cheap, recompute_segments
from weft.types import ROWS, SEQUENCES, DType


@dataclass(frozen=True)
class TrainingStep:
    """The inputs of a slice of training, by the names that a run passes.

    tokens, positions: i32[rows, 1], each row's token and its place in its document. sequences
    i32[sequences, 2]: (first_row, num_rows) of each document, which together cover all rows.
    """

    tokens: Matrix
    positions: Matrix
    sequences: Matrix
    adapter: AdapterSettings | None = None

    def attention(self, config: ModelConfig, layer: int, q: Matrix, k: Matrix, v: Matrix) -> Matrix:
        """Attention of each row to the rows before it in its document, and to itself."""
        dims = (config.heads, config.kv_heads, config.head_dim)
        return ops.sequence_attention(q, k, v, self.sequences, *dims, window=config.windows[layer])

    def lstm(self, layer: int, x_gates: Matrix, weight: Operand) -> Matrix:
        """A recurrent layer within each document, h f32[rows, H]."""
        return ops.lstm(x_gates, weight, self.sequences)

    def wanted_rows(self, h: Matrix) -> Matrix:
        """All rows: each foretells a token."""
        return h

    def of_wanted_rows(self, *values: Matrix) -> tuple[TrainingStep, tuple[Matrix, ...]]:
        """All rows."""
        return self, values

    def adapts(self, r: Recorder, parts: Mapping[str, int]) -> bool:
        """Whether the adapter has any of `parts`."""
        return self.adapter is not None and any(has_adapter(r.weights, part) for part in parts)

    def linear(
        self,
        r: Recorder,
        parts: Mapping[str, int],
        x: Matrix,
        weight: Parameter,
        bias: Parameter | None = None,
        alternating: bool = False,
    ) -> Matrix:
        """The layer with what the adapter adds; weights that are trained over do not alternate."""
        assert not alternating
        if self.adapter is None or not self.adapts(r, parts):
            return ops.linear(x, weight, bias)
        return adapted_linear(r, self.adapter, parts, x, weight, bias)


@dataclass(frozen=True)
class LossSettings:
    """What the loss adds to plain cross-entropy; see `weft.ops.cross_entropy.CrossEntropy`."""

    label_smoothing: float = 0.0
    z_loss: float = 0.0


def build_training_plan(
    config: TokenModelConfig,
    weights: Weights,
    rows: int,
    loss: LossSettings = LossSettings(),
    compute: str = "f32",
    recompute_layers: bool = False,
    adapter: AdapterSettings | None = None,
) -> Plan:
    """A plan of forward and backward pass for slices of at most `rows` tokens.

    Inputs of a run: those of `TrainingStep`, targets i32[rows, 1], and loss_weights f32[rows, 1], which the
    rows' losses are multiplied with and added up. Outputs: loss and correct, f32[rows, 1]. Gradients of that
    sum are added to the parameters d_NAME of all tensors NAME among `weights`. compute: "f32" or "bf16"
    products. recompute_layers: keep of each layer its input alone. adapter: how adapters among the weights
    count; where their dropout is not 0 a run also takes row_ids i64[rows, 1] and seed u32[1, 2]. Raises
    PlanError.
    """
    r = Recorder(weights, compute)
    features = _record_features(r, config, rows, adapter)
    head = r.weight(head_name(config))
    result = ops.cross_entropy_grad(
        features,
        head,
        r.input("targets"),
        r.input("loss_weights", dtype=DType.F32),
        r.gradient(head),
        loss.label_smoothing,
        loss.z_loss,
        compute,
    )
    _output_losses(r, result[0], result[1])
    assert isinstance(features, Value) and isinstance(result[2], Value)
    backward(r, {features: result[2]}, recompute_segments if recompute_layers else recompute_cheap)
    return freeze(r.finish(), {ROWS: rows})


def build_evaluation_plan(
    config: TokenModelConfig,
    weights: Weights,
    rows: int,
    loss: LossSettings = LossSettings(),
    compute: str = "f32",
    adapter: AdapterSettings | None = None,
) -> Plan:
    """A plan of the forward pass alone, without dropout: tokens, positions, sequences and targets as inputs,
    loss and correct as outputs.
    """
    r = Recorder(weights, compute)
    features = _record_features(r, config, rows, adapter and replace(adapter, dropout=0.0))
    head, settings = r.weight(head_name(config)), (loss.label_smoothing, loss.z_loss, compute)
    _output_losses(r, *ops.cross_entropy(features, head, r.input("targets"), *settings))
    return freeze(r.finish(), {ROWS: rows})


def _record_features(
    r: Recorder, config: TokenModelConfig, rows: int, adapter: AdapterSettings | None
) -> Matrix:
    sequences = r.input("sequences", SEQUENCES, columns=2)
    step = TrainingStep(r.input("tokens"), r.input("positions"), sequences, adapter)
    context = min(rows, config.max_context)
    return architecture(config.architecture).record_features(r, config, step, context)


def _output_losses(r: Recorder, loss: Matrix, correct: Matrix) -> None:
    r.output("loss", loss)
    r.output("correct", correct)
