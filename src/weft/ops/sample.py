"""sample: one token for each row of logits, by the settings of its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.ops.operation import Matrix, Operation, Sizes, expect, matrix, operand_bytes, record
from weft.ops.philox import uniform_f64
from weft.types import Array, DType, MatrixType, OperandType

# The columns of the settings, in order; native/ops/sample.h says what each means.
REAL_SETTINGS = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
INT_SETTINGS = (
    "top_k",
    "wants_log_prob",
    "num_top_log_probs",
    "seed_low",
    "seed_high",
    "stream",
    "position",
    "history_begin",
    "generated_begin",
    "history_end",
    "bias_begin",
    "bias_end",
    "mask_begin",
    "mask_end",
)
MAX_TOP_LOG_PROBS = 20


@dataclass(frozen=True)
class Sample(Operation):
    """tokens[r] ~ softmax(logits[r] as penalized, masked, tempered and filtered by row r's settings).

    logits f32[outputs, V], real_settings f32[outputs, 6], int_settings i32[outputs, 14]; ragged parts of
    the rows: history i32[any, 1], bias_ids i32[any, 1], bias_values f32[any, 1], mask_words u32[any, 1] →
    tokens i32[outputs, 1], log_probs f32[outputs, 1], top_ids i32[outputs, 20], top_log_probs f32[outputs,
    20], natural logarithms of the model's own distribution; beyond as many as are asked for, top_ids are 0
    and top_log_probs -inf. Order of the steps and defaults: native/ops/sample.h.
    """

    name = "sample"
    operands = (
        matrix("logits"),
        matrix("real_settings"),
        matrix("int_settings", DType.I32),
        matrix("history", DType.I32),
        matrix("bias_ids", DType.I32),
        matrix("bias_values"),
        matrix("mask_words", DType.U32),
    )
    outputs = ("tokens", "log_probs", "top_ids", "top_log_probs")

    def shape(
        self, logits: MatrixType, real_settings: MatrixType, int_settings: MatrixType, **ragged: MatrixType
    ) -> tuple[MatrixType, ...]:
        for settings, names in ((real_settings, REAL_SETTINGS), (int_settings, INT_SETTINGS)):
            fits = settings.columns == len(names) and settings.rows == logits.rows
            expect(self, fits, f"columns {names} for each row of logits", settings, "fill in all of them")
        for operand in ragged.values():
            expect(
                self, operand.columns == 1, "ragged parts of one column", operand, "join them in one column"
            )
        rows = logits.rows
        return (
            MatrixType(rows, 1, DType.I32),
            MatrixType(rows, 1),
            MatrixType(rows, MAX_TOP_LOG_PROBS, DType.I32),
            MatrixType(rows, MAX_TOP_LOG_PROBS),
        )

    def flops(self, sizes: Sizes, logits: MatrixType, **settings: MatrixType) -> float:
        return 4.0 * sizes[logits.rows] * logits.columns

    def bytes_read(self, sizes: Sizes, types: Mapping[str, OperandType]) -> float:
        fixed = ("logits", "real_settings", "int_settings")
        return sum(operand_bytes(types[name], sizes) for name in fixed)

    def reference(
        self,
        logits: Array,
        real_settings: Array,
        int_settings: Array,
        history: Array,
        bias_ids: Array,
        bias_values: Array,
        mask_words: Array,
    ) -> tuple[Array, ...]:
        rows = [
            _Row(
                logits[row].astype(np.float64),
                dict(zip(REAL_SETTINGS, real_settings[row].tolist(), strict=True)),
                dict(zip(INT_SETTINGS, int_settings[row].tolist(), strict=True)),
            )
            for row in range(len(logits))
        ]
        tokens = [
            row.choose(history[:, 0], bias_ids[:, 0], bias_values[:, 0], mask_words[:, 0]) for row in rows
        ]
        top = [row.top_log_probs() for row in rows]
        return (
            np.array(tokens, np.int32).reshape(-1, 1),
            np.array([row.log_prob(token) for row, token in zip(rows, tokens, strict=True)]).reshape(-1, 1),
            np.array([ids for ids, _ in top], np.int32).reshape(-1, MAX_TOP_LOG_PROBS),
            np.array([values for _, values in top]).reshape(-1, MAX_TOP_LOG_PROBS),
        )


@dataclass(frozen=True)
class _Row:
    """One row of logits with its settings."""

    logits: Array
    real: Mapping[str, float]
    ints: Mapping[str, int]

    def choose(self, history: Array, bias_ids: Array, bias_values: Array, mask_words: Array) -> int:
        """The token of this row."""
        logits = self.logits.copy()
        part = slice(self.ints["bias_begin"], self.ints["bias_end"])
        np.add.at(logits, bias_ids[part], bias_values[part])
        logits = self._masked(self._penalized(logits, history), mask_words)
        if self.real["temperature"] == 0:
            return int(np.argmax(logits))
        kept = self._filtered(logits / self.real["temperature"])
        weights = np.where(kept > -np.inf, np.exp(kept - kept.max()), 0)
        reached = np.cumsum(weights)
        seed = self.ints["seed_low"] % 2**32 + (self.ints["seed_high"] % 2**32 << 32)
        drawn = uniform_f64(seed, self.ints["stream"] % 2**32, self.ints["position"])
        return min(
            int(np.searchsorted(reached, drawn * reached[-1], side="right")), int(np.nonzero(weights)[0][-1])
        )

    def log_prob(self, token: int) -> float:
        """The token's log-probability where it is asked for, else 0."""
        return float(self._log_softmax()[token]) if self.ints["wants_log_prob"] else 0.0

    def top_log_probs(self) -> tuple[Array, Array]:
        """The likeliest tokens and their log-probabilities; 0 and -inf beyond as many as are asked for."""
        count = min(self.ints["num_top_log_probs"], len(self.logits))
        ids, values = np.zeros(MAX_TOP_LOG_PROBS, np.int32), np.full(MAX_TOP_LOG_PROBS, -np.inf)
        ids[:count] = np.argsort(-self.logits, kind="stable")[:count]
        values[:count] = self._log_softmax()[ids[:count]]
        return ids, values

    def _log_softmax(self) -> Array:
        shifted = self.logits - self.logits.max()
        return np.asarray(shifted - np.log(np.exp(shifted).sum()))

    def _penalized(self, logits: Array, history: Array) -> Array:
        begin, generated_begin, end = (
            self.ints[name] for name in ("history_begin", "generated_begin", "history_end")
        )
        seen = np.unique(history[begin:end])
        repetition = self.real["repetition_penalty"]
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / repetition, logits[seen] * repetition)
        generated, counts = np.unique(history[generated_begin:end], return_counts=True)
        logits[generated] -= self.real["presence_penalty"] + self.real["frequency_penalty"] * counts
        return logits

    def _masked(self, logits: Array, mask_words: Array) -> Array:
        words = mask_words[self.ints["mask_begin"] : self.ints["mask_end"]]
        if not len(words):
            return logits
        ids = np.arange(len(logits))
        allowed = (words[ids // 32] >> (ids % 32).astype(np.uint32)) & 1
        return np.where(allowed == 1, logits, -np.inf)

    def _filtered(self, logits: Array) -> Array:
        top_k = self.ints["top_k"]
        if 0 < top_k < len(logits):
            logits = np.where(logits >= np.sort(logits)[-top_k], logits, -np.inf)
        weights = np.exp(logits - logits.max())
        order = np.argsort(-logits, kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        kept = np.zeros(len(logits), bool)
        kept[order] = before < self.real["top_p"] * weights.sum()
        kept[order[0]] = True
        return np.where(kept & (weights >= self.real["min_p"]), logits, -np.inf)


def sample(
    logits: Matrix,
    real_settings: Matrix,
    int_settings: Matrix,
    history: Matrix,
    bias_ids: Matrix,
    bias_values: Matrix,
    mask_words: Matrix,
) -> tuple[Matrix, ...]:
    """Records the choice of a token for each row of `logits`; gives tokens, log_probs, top_ids,
    top_log_probs.
    """
    return record(
        Sample(),
        logits=logits,
        real_settings=real_settings,
        int_settings=int_settings,
        history=history,
        bias_ids=bias_ids,
        bias_values=bias_values,
        mask_words=mask_words,
    )
