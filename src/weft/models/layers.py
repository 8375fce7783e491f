"""Pieces that architectures share: the steps they are recorded for, and what follows the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

from weft import ops
from weft.errors import ConfigError
from weft.models.adapter_bank import AdapterBank
from weft.models.config import ModelConfig, TokenModelConfig
from weft.ops import Matrix
from weft.ops.sample import INT_SETTINGS, REAL_SETTINGS, Sample
from weft.plan import Parameter, Recorder, State
from weft.types import BLOCKS, OUTPUTS, SEQUENCES, DType

PURPOSES = ("generate", "score", "rank", "logits")

# Inputs of `sample` and their rows, columns and types: see `weft.ops.sample`.
SAMPLE_INPUTS = {
    "real_settings": (OUTPUTS, len(REAL_SETTINGS), DType.F32),
    "int_settings": (OUTPUTS, len(INT_SETTINGS), DType.I32),
    "history": ("history", 1, DType.I32),
    "bias_ids": ("biases", 1, DType.I32),
    "bias_values": ("biases", 1, DType.F32),
    "mask_words": ("mask", 1, DType.U32),
}


class Step(Protocol):
    """What an architecture needs of a step of tokens: generation's, or training's."""

    @property
    def tokens(self) -> Matrix:
        """i32[rows, 1]: each row's token."""

    @property
    def positions(self) -> Matrix:
        """i32[rows, 1]: each row's place in its text."""

    def attention(self, config: ModelConfig, layer: int, q: Matrix, k: Matrix, v: Matrix) -> Matrix:
        """Records attention of q f32[rows, heads · head_dim] to the texts so far, k and v of these rows
        included.
        """

    def of_wanted_rows(self, *values: Matrix) -> tuple[Self, tuple[Matrix, ...]]:
        """Records the rows of `values` f32[rows, any] whose next token is asked for; gives their step, too.

        After the last layer's attention nobody reads the other rows.
        """

    def adapts(self, r: Recorder, parts: Mapping[str, int]) -> bool:
        """Whether an adapter changes any of `parts`."""

    def linear(
        self,
        r: Recorder,
        parts: Mapping[str, int],
        x: Matrix,
        weight: Parameter,
        bias: Parameter | None = None,
        alternating: bool = False,
    ) -> Matrix:
        """Records a linear layer, whose columns are `parts` (name: columns) side by side or alternating, as
        adapters change them.
        """


@dataclass(frozen=True)
class CachedStep:
    """The inputs of a step of generation, by the names that a run passes.

    tokens, positions, slots: i32[rows, 1], each row's token, place in its text, and place in the cache.
    sequences i32[sequences, 4], block_table i32[blocks, 1]: see `weft.ops.attention.Attention`.
    output_rows i32[outputs, 1]: the rows whose next token is asked for.
    adapters i32[rows, 1], output_adapters i32[outputs, 1]: where there is a bank, the number of each row's
    adapter, and of each of those at output_rows.
    """

    tokens: Matrix
    positions: Matrix
    slots: Matrix
    sequences: Matrix
    block_table: Matrix
    output_rows: Matrix
    cache: State
    bank: AdapterBank | None = None
    adapters: Matrix | None = None
    output_adapters: Matrix | None = None

    def attention(self, config: ModelConfig, layer: int, q: Matrix, k: Matrix, v: Matrix) -> Matrix:
        """Attention over the paged cache, k and v of these rows written to it first."""
        ops.kv_write(k, v, self.cache, self.slots, layer, config.kv_heads, config.head_dim)
        return ops.attention(
            q,
            self.cache,
            self.sequences,
            self.block_table,
            layer,
            config.heads,
            config.kv_heads,
            config.head_dim,
            window=config.windows[layer],
        )

    def of_wanted_rows(self, *values: Matrix) -> tuple[CachedStep, tuple[Matrix, ...]]:
        """The rows at `output_rows`."""
        rows = tuple(ops.gather_rows(value, self.output_rows) for value in values)
        return replace(self, adapters=self.output_adapters), rows

    def adapts(self, r: Recorder, parts: Mapping[str, int]) -> bool:
        """Whether an adapter of the bank changes any of `parts`."""
        return self.bank is not None and self.bank.adapts(parts)

    def linear(
        self,
        r: Recorder,
        parts: Mapping[str, int],
        x: Matrix,
        weight: Parameter,
        bias: Parameter | None = None,
        alternating: bool = False,
    ) -> Matrix:
        """The layer, each row as its own adapter changes it."""
        out = ops.linear(x, weight, bias, alternating=alternating)
        if self.bank is None or self.adapters is None:
            return out
        return self.bank.add(r, self.adapters, parts, x, out, alternating)


def step_inputs(
    r: Recorder, config: ModelConfig, cache_dtype: DType, bank: AdapterBank | None = None
) -> CachedStep:
    """Declares the inputs and the cache of a step; with a bank, rows have adapters."""
    return CachedStep(
        tokens=r.input("tokens"),
        positions=r.input("positions"),
        slots=r.input("slots"),
        sequences=r.input("sequences", SEQUENCES, columns=4),
        block_table=r.input("block_table", BLOCKS),
        output_rows=r.input("output_rows", OUTPUTS),
        cache=r.cache("cache", config.cache_type(cache_dtype)),
        bank=bank,
        adapters=r.input("adapters") if bank else None,
        output_adapters=r.input("output_adapters", OUTPUTS) if bank else None,
    )


def optional_weight(r: Recorder, name: str, present: bool) -> Parameter | None:
    """The weight `name` where the configuration says that the model has it."""
    return r.weight(name) if present else None


def head_name(config: TokenModelConfig) -> str:
    """The weight that turns features into logits: the embedding itself where the model ties them."""
    return "embedding" if config.tied_head else "head"


def record_outputs(r: Recorder, logits: Matrix, purpose: str) -> None:
    """Records what a step gives for its logits f32[outputs, V]. Raises ConfigError for an unknown purpose."""
    if purpose == "generate":
        settings = [r.input(name, *kind) for name, kind in SAMPLE_INPUTS.items()]
        results = ops.sample(logits, *settings)
        for name, result in zip(Sample.outputs, results, strict=True):
            r.output(name, result)
    elif purpose in ("score", "rank"):
        r.output("log_probs", ops.log_probs(logits, r.input("targets", OUTPUTS)))
        if purpose == "rank":
            settings = [r.input(name, *kind) for name, kind in SAMPLE_INPUTS.items()]
            _, _, top_ids, top_log_probs = ops.sample(logits, *settings)
            r.output("top_ids", top_ids)
            r.output("top_log_probs", top_log_probs)
    elif purpose == "logits":
        r.output("logits", logits)
    else:
        raise ConfigError(f"Expected a purpose among {PURPOSES}, got {purpose!r}; choose one of these.")
