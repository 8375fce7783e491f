"""Judge greedy tokens by float32 transformers: `--model` is the float32 folder; one JSON request a line.

A request is `{"work": ..., "token_ids": [[...]]}`. Every token is judged in the context that its own engine
had: its gap is how far its float32 logit lies below the arg-max's, so 0 means that the oracle chose the same
token and a small gap means a near-tie.
"""

import argparse
import json
import statistics
import sys
from typing import Any

import torch
from prompts import WORKS
from protocol import Tokens, private_stdout
from transformers import AutoModelForCausalLM, PreTrainedModel

ROWS_AT_ONCE = 16


@torch.inference_mode()
def gaps(model: PreTrainedModel, prompts: Tokens, generated: Tokens) -> list[list[float]]:
    """Return for every generated token how far its logit lies below the largest one."""
    tokens = torch.tensor([prompt + row for prompt, row in zip(prompts, generated, strict=True)])
    count = len(generated[0])
    logits = model(tokens, logits_to_keep=count + 1).logits[:, :-1].float()
    chosen = logits.gather(2, tokens[:, -count:, None]).squeeze(2)
    result: list[list[float]] = (logits.amax(2) - chosen).tolist()
    return result


def judge(model: PreTrainedModel, request: dict[str, Any]) -> dict[str, Any]:
    """Return how many tokens are the oracle's own, and how far off the others are, in logits."""
    prompts = [list(prompt) for prompt in WORKS[request["work"]].prompts]
    generated = request["token_ids"]
    values: list[float] = []
    for start in range(0, len(prompts), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        values += [gap for row in gaps(model, prompts[rows], generated[rows]) for gap in row]
    return {
        "tokens": len(values),
        "tokens_right": sum(gap == 0 for gap in values),
        "mean_gap": statistics.fmean(values),
        "largest_gap": max(values),
    }


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a Hugging Face folder, read as float32")
    answers = private_stdout()
    model = AutoModelForCausalLM.from_pretrained(parser.parse_args().model, dtype=torch.float32).eval()
    for line in sys.stdin:
        print(json.dumps(judge(model, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
