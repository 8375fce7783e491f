"""weft eval: how well a model predicts text: loss, perplexity, accuracy, bits a byte."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from weft.cli.options import flag, model_flag
from weft.config import QUANT_KINDS
from weft.train.config import DTYPES
from weft.train.data.files import SPLITS


@click.command("eval")
@model_flag()
@flag("--data", multiple=True, required=True, help="File, folder, glob, - or stdlib; may be repeated.")
@flag("--adapter", help="Adapter to evaluate with: its folder, or a run's.")
@flag("--split", type=click.Choice(SPLITS), default="test", help="Which split, of data that has some.")
@flag("--max-seq-length", type=int, help="Tokens that are predicted from what is before them at once.")
@flag("--mask-prompt", is_flag=True, help="Count answers alone, not their prompts.")
@flag("-t", "--threads", type=int, help="Threads to compute with; by default what the machine grants.")
@flag("--quant", type=click.Choice(QUANT_KINDS), help="Requantize the weights first.")
@flag("--dtype", type=click.Choice(DTYPES), default="bf16", help="Type that float32 weights are computed in.")
@flag("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, as_json: bool, **values: Any) -> None:
    """Measure how well a model predicts text.

    Loss is the mean natural-log loss of a token; accuracy counts tokens that were the likeliest; bits a byte
    compares models of different tokenizers. Of a perceptron on vectors it is the mean squared error.
    """
    from weft.tasks.vectors import evaluate_perceptron, holds_perceptron

    if holds_perceptron(model):
        result = evaluate_perceptron(model, values["data"], values["split"], values["threads"])
    else:
        from weft.tasks.evaluate import evaluate_model

        result = evaluate_model(model, **values)
    if as_json:
        print(json.dumps(asdict(result)))
        return
    if result.perplexity is None or result.accuracy is None:
        print(f"mean squared error  {result.loss:.6g}\nvectors             {result.num_tokens:,}")
        return
    bits = f"\nbits per byte  {result.bits_per_byte:.4f}" if result.bits_per_byte is not None else ""
    print(
        f"loss           {result.loss:.4f}\nperplexity     {result.perplexity:.3f}\n"
        f"accuracy       {result.accuracy:.2%}{bits}\ntokens         {result.num_tokens:,}"
    )
