"""From a configuration and weights to a plan."""

from __future__ import annotations

from weft import ops
from weft.models.adapter_bank import AdapterBank
from weft.models.config import ModelConfig, TokenModelConfig
from weft.models.layers import CachedStep, head_name, record_outputs, step_inputs
from weft.models.registry import architecture
from weft.models.stateful import StatefulStep, stateful_step
from weft.plan import Plan, Recorder, Weights, freeze
from weft.types import OUTPUTS, ROWS, SEQUENCES, DType


def build_plan(
    config: TokenModelConfig,
    weights: Weights,
    rows: int,
    outputs: int,
    purpose: str = "generate",
    context: int | None = None,
    cache_dtype: DType = DType.F16,
    fuse: bool = True,
    bank: AdapterBank | None = None,
) -> Plan:
    """A plan of the model for steps of at most `rows` tokens, of which at most `outputs` ask for a next
    token.

    purpose: "generate" samples tokens, "score" gives log-probabilities of targets, "rank" also the
    likeliest tokens at their places, "logits" gives the logits.
    context: the longest text that will run, by default the model's own limit. bank: adapters, of which each
    row has one or none. Inputs of a run: see `weft.models.layers.CachedStep`, `weft.models.stateful` and
    `record_outputs`. Raises PlanError when weights and configuration disagree.
    """
    r = Recorder(weights)
    step: CachedStep | StatefulStep
    sizes = {ROWS: rows, OUTPUTS: outputs}
    if isinstance(config, ModelConfig):
        step = step_inputs(r, config, cache_dtype, bank)
    else:
        step, sizes[SEQUENCES] = stateful_step(r), rows
    family = architecture(config.architecture)
    features = family.record_features(r, config, step, context or config.max_context)
    logits = ops.linear(features, r.weight(head_name(config)))
    record_outputs(r, logits, purpose)
    return freeze(r.finish(), sizes, fuse)
