"""How well a model predicts text, by the same plan that training evaluates with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from weft.errors import ConfigError
from weft.io.fetch.sources import resolve
from weft.io.open_checkpoint import open_checkpoint
from weft.models.loader import pack_weights
from weft.models.registry import read_config
from weft.models.training import build_evaluation_plan
from weft.runtime import Pool, Tensor, Weight, compile
from weft.train.data.dataset import load_rows
from weft.train.data.files import find_files
from weft.train.data.slices import Slice, SliceResult
from weft.train.evaluate import Evaluation, bytes_of_tokens, evaluate
from weft.train.master import open_master
from weft.train.model_trainable import plan_inputs, slice_result
from weft.train.native_machinery import make_pool
from weft.train.origin import Origin
from weft.train.run_folder import RunFolder
from weft.types import Array

_LONGEST = 1024  # tokens of a row, unless the model's context is shorter or the caller says otherwise
_ROWS_TOKENS = 2048  # tokens that are computed at once

Bound = Mapping[str, Weight | Tensor | Array]


def evaluate_model(
    model: str,
    data: Sequence[str],
    *,
    adapter: str | None = None,
    split: str = "test",
    threads: int | None = None,
    quant: str | None = None,
    dtype: str = "bf16",
    max_seq_length: int | None = None,
    mask_prompt: bool = False,
) -> Evaluation:
    """Loss, perplexity, accuracy and bits a byte of `model` on `data` (see `find_files`).

    Documents are cut into rows of `max_seq_length` tokens, each predicted from what is before it in its row.
    split: of data with splits. quant and dtype: types of weights and of products. Raises DataError,
    ConfigError, and what opening the model raises.
    """
    with make_pool(threads, 1) as pool:
        origin, weights = _bound(model, adapter, quant, pool)
        longest = origin.config.max_context
        length = min(_LONGEST, longest) if max_seq_length is None else max_seq_length
        if not 1 <= length <= longest:
            raise ConfigError(f"Expected max_seq_length from 1 to {longest}, got {length}; correct it.")
        files = find_files(data)
        chosen = getattr(files, split) or files.valid or files.train
        vocabulary = origin.config.vocabulary_size
        rows = load_rows(chosen, origin.tokenizer, origin.template(), vocabulary, length, mask_prompt)
        rows_per_slice = max(1, _ROWS_TOKENS // length)
        compute = "bf16" if dtype == "bf16" else "f32"
        plan = build_evaluation_plan(origin.config, weights, rows_per_slice * length, compute=compute)
        executable = compile(plan, pool, weights)

        def run(slices: Sequence[Slice]) -> list[SliceResult]:
            return [slice_result(item, executable.run(plan_inputs(plan, item))) for item in slices]

        token_bytes = bytes_of_tokens(origin.tokenizer, vocabulary)
        return evaluate(run, rows, rows_per_slice, token_bytes=token_bytes)


def _bound(model: str, adapter: str | None, quant: str | None, pool: Pool) -> tuple[Origin, Bound]:
    """The model, and its weights as plans take them: packed as generation has them, where that can be."""
    if adapter is None and not RunFolder.holds_run(Path(model)):
        checkpoint = open_checkpoint(resolve(model))
        config = read_config(checkpoint.config)
        origin = Origin(
            checkpoint.config, config, checkpoint.tokenizer(), checkpoint.chat_template, {}, checkpoint
        )
        return origin, pack_weights(checkpoint, config, pool, quant, may_interleave=False)
    if quant is not None:
        raise ConfigError("Expected no quant for adapters and runs, got one; leave it out.")
    master = open_master(model, adapter)
    return master.origin, {name: Tensor(weight) for name, weight in master.weights.items()}
