"""torch as a training peer: train one work with one configuration, JSON lines in, JSON lines out.

A request is `{"steps": n}`; the answer holds the seconds and the loss of each step, and the peak memory of
all processes. `--steps N` answers one such request after a warm-up step and ends. With `--processes 2` the
batch is split over DistributedDataParallel processes that reduce by gloo, each with its share of the threads.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))
from data import LEARNING_RATES, SHAPES, WEIGHT_DECAY, counted_per_step
from protocol import peak_bytes, private_stdout
from works import WORKS, Sources, batches, make_module


class TorchTrainer:
    """A model with its optimizer and its batches; `run` trains some steps."""

    def __init__(self, options: argparse.Namespace, rank: int) -> None:
        torch.set_num_threads(options.threads)
        self.autocast = options.precision == "bf16"
        module = make_module(options.work, Sources(options.model, options.tokens)).train()
        if options.precision == "bf16-weights":
            module = module.to(torch.bfloat16)
        self.parameters = [one for one in module.parameters() if one.requires_grad]
        self.optimizer = make_optimizer(options.work, self.parameters)
        self.module: nn.Module = module
        if options.processes > 1:
            self.module = nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        if options.compile:
            self.module = torch.compile(self.module)
        share = SHAPES[options.work][0] // options.processes
        self.rows = slice(rank * share, (rank + 1) * share)
        self.batches: Iterator[tuple[Tensor, Tensor]] = batches(options.work, options.tokens)

    def run(self, steps: int) -> tuple[list[float], list[float]]:
        """Train `steps` steps and return the seconds and the loss of each."""
        seconds, losses = [], []
        for _ in range(steps):
            start = time.perf_counter()
            losses.append(self.step())
            seconds.append(time.perf_counter() - start)
        return seconds, losses

    def step(self) -> float:
        """Train one step and return its loss (of this process's rows)."""
        inputs, targets = (one[self.rows] for one in next(self.batches))
        with torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext():
            loss = self.module(inputs, targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def make_optimizer(work: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the fused optimizer of a work; vectors do not decay."""
    rate = LEARNING_RATES[work]
    if not WORKS[work].adam:
        return torch.optim.SGD(parameters, lr=rate, fused=True)
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [one for one in parameters if one.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def answer(trainer: TorchTrainer, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, and return what is reported; the peak memory is that of all processes together."""
    seconds, losses = trainer.run(steps)
    peak = torch.tensor([peak_bytes()])
    if options.processes > 1:
        distributed.all_reduce(peak)
    return {
        "work": options.work,
        "peer": "torch",
        "versions": {"torch": torch.__version__},
        "threads": options.threads,
        "processes": options.processes,
        "precision": options.precision,
        "compile": options.compile,
        "seconds": seconds,
        "losses": losses,
        "per_second": counted_per_step(options.work) / statistics.median(seconds),
        "peak_bytes": int(peak),
    }


def serve(rank: int, options: argparse.Namespace) -> None:
    """Answer requests; every process takes part in each step, and the first of them talks."""
    answers = private_stdout() if rank == 0 else None
    if options.processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(options.port)}
        distributed.init_process_group("gloo", rank=rank, world_size=options.processes)
    trainer = TorchTrainer(options, rank)
    for steps, shown in requests(rank, options):
        result = answer(trainer, steps, options)
        if answers is not None and shown:
            print(json.dumps(result), file=answers, flush=True)
    if options.processes > 1:
        distributed.destroy_process_group()


def requests(rank: int, options: argparse.Namespace) -> Iterator[tuple[int, bool]]:
    """Yield how many steps to train and whether to report them: by the option or by lines of input."""
    if options.steps:
        yield 1, False
        yield options.steps, True
        return
    while True:
        line = sys.stdin.readline() if rank == 0 else ""
        steps = torch.tensor([json.loads(line)["steps"] if line else 0])
        if options.processes > 1:
            distributed.broadcast(steps, 0)
        if not int(steps):
            return
        yield int(steps), True


def main() -> None:
    """Start the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=list(WORKS))
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--tokens", type=Path, required=True, help="tokens.npy")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bf16", "bf16-weights"), default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=0, help="train so many after one to warm up, and end")
    parser.add_argument("--port", type=int, default=29_511, help="where processes meet, on this machine")
    options = parser.parse_args()
    if options.processes == 1:
        serve(0, options)
        return
    others = [
        torch.multiprocessing.get_context("spawn").Process(target=serve, args=(rank, options))
        for rank in range(1, options.processes)
    ]
    for process in others:
        process.start()
    serve(0, options)
    for process in others:
        process.join()


if __name__ == "__main__":
    main()
