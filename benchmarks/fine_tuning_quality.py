"""What fine-tuning gains on held-out text: weft beside torch, and LoRA over 4-bit weights beside bf16.

    python benchmarks/fine_tuning_quality.py [--model NAME] [--data GLOB] [--steps N] [--only RUN]

The same batches, rates and held-out rows for all; torch computes in float32, with its own AdamW, over the
model that weft exports. Prints a line for each run, and one JSON line last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import weft
from weft.tasks.export import export_folder
from weft.train.data.slices import Slice, make_slices
from weft.train.evaluate import summarize

RUNS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 5e-5},
    "lora over bf16": {"lora": True, "quant": "bf16"},
    "lora over the file's 4 bits": {"lora": True},
    "lora over q4": {"lora": True, "quant": "q4"},
}
TORCH = "full, torch"
EVAL_ROWS = 8


def run_weft(settings: dict[str, Any]) -> tuple[float, float]:
    """Held-out loss before and after."""
    with weft.trainer(**settings) as trainer:
        before = trainer.evaluate()
        parts, progress = trainer._parts, trainer.progress
        for step in range(trainer.total_steps):  # without the checkpoint at the end
            results = parts.model.run(parts.batches(step))
            print(f"  step {step + 1}: {summarize(results).loss:.4f}", flush=True)
            parts.optimizer.step(parts.optimizer.gradient_norm(), parts.schedule(step), step + 1)
            progress.count(0.0, 0)
        after = trainer.evaluate()
    assert before is not None and after is not None
    return before.loss, after.loss


def to_repeat(settings: dict[str, Any]) -> tuple[list[tuple[Any, float]], list[Slice], weft.TrainConfig]:
    """What a run of torch must repeat: batches and rates of each step, held-out rows, settings."""
    with weft.trainer(**settings) as trainer:
        parts = trainer._parts
        steps = [(parts.batches(step), parts.schedule(step)) for step in range(trainer.total_steps)]
        rows = parts.evaluate.args[1]  # type: ignore[union-attr]
        held_out = make_slices(rows, range(min(EVAL_ROWS, len(rows))), EVAL_ROWS)
        return steps, held_out, trainer.config


def torch_loss(model: Any, slices: Iterable[Slice]) -> Any:
    """The weighted loss of slices, each document on its own."""
    total = torch.zeros(())
    for part in slices:
        for first, count in part.sequences.tolist():
            rows = slice(first, first + count)
            tokens = torch.from_numpy(part.tokens[rows, 0].astype(np.int64))[None]
            targets = torch.from_numpy(part.targets[rows, 0].astype(np.int64))
            losses = torch.nn.functional.cross_entropy(model(tokens).logits[0], targets, reduction="none")
            total = total + (losses * torch.from_numpy(part.loss_weights[rows, 0])).sum()
    return total


def run_torch(settings: dict[str, Any], folder: Path) -> tuple[float, float]:
    """The same run by torch: held-out loss before and after."""
    from transformers import AutoModelForCausalLM

    steps, held_out, config = to_repeat(settings)
    export_folder(settings["model"], folder, "float32")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)
    with torch.no_grad():
        before = float(torch_loss(model, held_out))
    for slices, rate in steps:
        loss = torch_loss(model, slices)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        print(f"  torch: {loss.item():.4f}", flush=True)
    with torch.no_grad():
        return before, float(torch_loss(model, held_out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data", default=str(Path(asyncio.__file__).parent / "*.py"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--only", choices=[*RUNS, TORCH])
    options = parser.parse_args()
    torch.set_num_threads(2)
    common = {"model": options.model, "data": options.data, "steps": options.steps, "batch_size": 2}
    common |= {"max_seq_length": options.length, "eval_tokens": EVAL_ROWS * options.length, "threads": 2}
    results: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in [options.only] if options.only else [*RUNS, TORCH]:
            settings = common | RUNS.get(name, RUNS["full"]) | {"out": f"{place}/{name}"}
            run = partial(run_torch, folder=Path(place) / "exported") if name == TORCH else run_weft
            results[name] = run(settings)
            _tell(name, *results[name])
    print(json.dumps({name: {"before": b, "after": a} for name, (b, a) in results.items()}))


def _tell(name: str, before: float, after: float) -> None:
    perplexities = f"perplexity {np.exp(before):.3f} before, {np.exp(after):.3f} after"
    print(f"{name}: held-out loss {before:.4f} before, {after:.4f} after; {perplexities}", flush=True)


if __name__ == "__main__":
    main()
