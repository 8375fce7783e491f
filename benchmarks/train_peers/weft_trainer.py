"""weft as a trainer, behind the same interface as torch_trainer.py: JSON lines in, JSON lines out.

A request is `{"steps": n}`; the answer holds the seconds and the loss of each step, and the peak memory. A
step is what weft's own training loop does: the gradients of the batch, their norm, the update.
`{"limit": true}` asks for what this machine's measured limits allow.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))
from data import LEARNING_RATES, SHAPES, WEIGHT_DECAY, counted_per_step, token_batches, vector_batches
from protocol import peak_bytes, private_stdout

import weft
from weft.io.checkpoint import Checkpoint
from weft.io.open_checkpoint import open_checkpoint
from weft.io.safetensors import open_safetensors
from weft.models.adapter import AdapterSettings
from weft.models.loader import pack_weights
from weft.models.registry import read_config
from weft.models.training import build_evaluation_plan, build_training_plan
from weft.models.vector_perceptron import build_vector_plan
from weft.optimizer_runtime import OptimizerKernel
from weft.plan.roofline import least_seconds
from weft.runtime import Pool, measure_limits
from weft.train.adapters import initial_adapter
from weft.train.data.slices import Slice
from weft.train.data.vectors import VectorSlice
from weft.train.master_weights import load_master_weights
from weft.train.model_trainable import ModelTrainable, TrainingPlans
from weft.train.optimizer import Optimizer, UpdateRule
from weft.types import Array

ADAMW = UpdateRule("adamw", 0.9, 0.999, 1e-8, WEIGHT_DECAY, 0.0, False)
SGD = UpdateRule("sgd", 0.0, 0.0, 0.0, 0.0, 0.0, False)
RANK, ALPHA = 16, 32.0


class TokenTrainer:
    """A language model, its optimizer and its batches."""

    def __init__(self, options: argparse.Namespace, pool: Pool) -> None:
        checkpoint = open_checkpoint(options.model)
        weights, frozen, adapter = what_is_trained(options.work, checkpoint, pool)
        config = read_config(checkpoint.config)
        compute = "bf16" if options.precision == "bf16" else "f32"
        plans = TrainingPlans(
            train=lambda bound, rows: build_training_plan(
                config, bound, rows, compute=compute, adapter=adapter
            ),
            evaluate=lambda bound, rows: build_evaluation_plan(config, bound, rows, adapter=adapter),
        )
        rows, columns = SHAPES[options.work]
        self.rows_per_slice = rows // options.slices
        self.model = ModelTrainable(
            plans, weights, pool, self.rows_per_slice * columns, frozen, num_slices=options.slices
        )
        kernel = OptimizerKernel(pool)
        self.optimizer = Optimizer(ADAMW, 0.0, self.model.weights, self.model.gradients, kernel)
        self.rate = LEARNING_RATES[options.work]
        self.batches = token_batches(options.tokens, rows, columns)
        self.plan = self.model.plan
        self.sizes = {
            "rows": self.rows_per_slice * columns,
            "sequences": self.rows_per_slice,
            "context": (columns + 1) / 2,
        }
        self.num_steps = 0

    def step(self) -> float:
        """Train one step and return its loss."""
        tokens, targets = next(self.batches)
        size = self.rows_per_slice
        slices = [
            make_slice(tokens[at : at + size], targets[at : at + size], tokens.size)
            for at in range(0, len(tokens), size)
        ]
        results = self.model.run(slices)
        self.num_steps += 1
        self.optimizer.step(self.optimizer.gradient_norm(), self.rate, self.num_steps)
        return sum(one.loss_sum for one in results) / tokens.size


def what_is_trained(
    work: str, checkpoint: Checkpoint, pool: Pool
) -> tuple[dict[str, Array], Any, AdapterSettings | None]:
    """Return the weights that are trained, those that are not, and how an adapter among them counts."""
    if work != "lora":
        return load_master_weights(checkpoint, read_config(checkpoint.config)), None, None
    config = read_config(checkpoint.config)
    frozen = pack_weights(checkpoint, config, pool, None, may_interleave=False)
    return initial_adapter(config, (), RANK, 0), frozen, AdapterSettings(RANK, ALPHA)


def make_slice(tokens: Array, targets: Array, rows_per_step: int) -> Slice:
    """Return sequences [rows, columns] as a slice of a step."""
    rows, columns = tokens.shape
    positions = np.tile(np.arange(columns, dtype=np.int32), rows)
    firsts = np.arange(rows) * columns
    return Slice(
        tokens.reshape(-1, 1),
        np.ascontiguousarray(targets.reshape(-1, 1)),
        positions[:, None],
        np.full((tokens.size, 1), 1 / rows_per_step, np.float32),
        np.stack([firsts, np.full(rows, columns)], axis=1).astype(np.int32),
        np.arange(tokens.size, dtype=np.int64)[:, None],
    )


class VectorTrainer:
    """The perceptron on vectors, with plain gradient descent."""

    def __init__(self, options: argparse.Namespace, pool: Pool) -> None:
        rows, columns = SHAPES["perceptron"]
        tensors = open_safetensors(Path(options.model) / "model.safetensors").tensors
        kinds = {"": "weight", "_bias": "bias"}
        weights = {
            layer + suffix: np.array(tensors[f"{layer}.{kind}"].dequantize())
            for layer in ("hidden", "output")
            for suffix, kind in kinds.items()
        }
        compute = "bf16" if options.precision == "bf16" else "f32"
        self.rows_per_slice = rows // options.slices
        outputs = len(weights["output"])
        plans = TrainingPlans(
            train=lambda bound, rows: build_vector_plan(bound, columns, outputs, rows, "train", compute),
            evaluate=lambda bound, rows: build_vector_plan(bound, columns, outputs, rows, "evaluate"),
            has_free_rows=True,
        )
        self.model = ModelTrainable(plans, weights, pool, self.rows_per_slice, num_slices=options.slices)
        kernel = OptimizerKernel(pool)
        self.optimizer = Optimizer(SGD, 0.0, self.model.weights, self.model.gradients, kernel)
        self.rate = LEARNING_RATES["perceptron"]
        self.batches = vector_batches(rows, columns)
        self.plan = self.model.plan
        self.sizes = {"rows": self.rows_per_slice}
        self.rows = np.arange(rows, dtype=np.int32)[:, None]
        self.loss_weights = np.full((rows, 1), 1 / rows, np.float32)
        self.num_steps = 0

    def step(self) -> float:
        """Train one step and return its loss."""
        x, targets = next(self.batches)
        size = self.rows_per_slice
        places = [slice(first, first + size) for first in range(0, len(x), size)]
        results = self.model.run(
            [VectorSlice(x, targets, self.rows[p], self.loss_weights[p]) for p in places]
        )
        self.num_steps += 1
        self.optimizer.step(self.optimizer.gradient_norm(), self.rate, self.num_steps)
        return sum(one.loss_sum for one in results) / len(x)


def run(trainer: TokenTrainer | VectorTrainer, steps: int) -> dict[str, Any]:
    """Train `steps` steps and return the seconds and the loss of each."""
    seconds, losses = [], []
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(trainer.step())
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "losses": losses}


def describe(options: argparse.Namespace, measured: dict[str, Any]) -> dict[str, Any]:
    """Return an answer: what was run, and what it gave."""
    return {
        "work": options.work,
        "peer": "weft",
        "versions": {"weft": weft.__version__},
        "threads": options.threads,
        "teams": options.teams,
        "precision": options.precision,
        "per_second": counted_per_step(options.work) / statistics.median(measured["seconds"]),
        "peak_bytes": peak_bytes(),
    } | measured


def main() -> None:
    """Answer requests, or train as many steps as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=list(SHAPES))
    parser.add_argument("--model", type=Path, required=True, help="the folder that training begins from")
    parser.add_argument("--tokens", type=Path, required=True, help="tokens.npy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--teams", type=int, default=1)
    parser.add_argument("--slices", type=int, default=1, help="parts that a step's batch is cut into")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16")
    parser.add_argument("--steps", type=int, default=0, help="train so many after one to warm up, and end")
    options = parser.parse_args()
    answers = private_stdout()
    pool = Pool(options.threads, options.teams)
    make = VectorTrainer if options.work == "perceptron" else TokenTrainer
    trainer = make(options, pool)
    if options.steps:
        run(trainer, 1)
        print(json.dumps(describe(options, run(trainer, options.steps))), file=answers)
        return
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("limit"):
            limits = measure_limits(pool)
            least = least_seconds(trainer.plan, trainer.sizes, limits) * options.slices
            answer = {"limit_per_second": counted_per_step(options.work) / least, "limits": vars(limits)}
        else:
            answer = describe(options, run(trainer, request["steps"]))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
