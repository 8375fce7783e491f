"""What `tools/sanitize.sh` runs of training: each kind of model, at once and with several threads and teams.

Runs of every kind start from a barrier, each on a pool of its own, and save and evaluate while the others
compute; adapters train over quantized weights with dropout and recomputation, and perceptrons on vectors in
blocks of rows. The weights' bits are compared with those of one thread.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.tiny_folder import write_tiny_folder
from tools.many_threads import at_once
from weft.row_blocks import BLOCK_ROWS
from weft.train.config import TrainConfig
from weft.train.native_machinery import native_machinery
from weft.train.prepare import prepare

ATTENTION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"preset": "gpt2-tiny", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64},
    "llama": {"preset": "llama-tiny", **ATTENTION, "num_key_value_heads": 1},
    "lstm": {"preset": "lstm-tiny", "embedding_size": 8, "hidden_size": 12, "num_hidden_layers": 2},
    "perceptron": {"preset": "perceptron", "embedding_size": 8, "hidden_size": 12, "window": 3},
}
OTHERWISE: dict[str, dict[str, Any]] = {"llama": {"dtype": "float32"}}  # the rest computes in bfloat16
ADAPTERS: dict[str, dict[str, Any]] = {
    "adapter": {"lora": True, "rank": 4},
    "int8 adapter": {"lora": True, "rank": 4, "quant": "int8"},
    "q8 adapter": {"lora": True, "rank": 4, "quant": "q8", "lora_dropout": 0.1},
    "q4 adapter": {"lora": True, "rank": 4, "quant": "q4", "grad_checkpoint": True},
}
VECTORS: dict[str, dict[str, Any]] = {
    "vectors": {"dtype": "float32"},
    "bf16 vectors": {"dtype": "bf16"},
}
TEAMS = [(2, 1), (2, 2), (3, 1)]


def checksum(folder: Path, name: str, threads: int, teams: int) -> str:
    """Trains one kind of model in a folder of its own; the checksum of what came of it."""
    config = TrainConfig(
        out=str(folder / f"{name} {threads} {teams}"),
        steps=6,
        eval_every=3,
        save_every=2,
        learning_rate=0.02,
        threads=threads,
        teams=teams,
        **(of_vectors(folder, name) if name in VECTORS else of_tokens(folder, name)),
    )
    with prepare(config, native_machinery) as trainer:
        return trainer.run().weights_sha256


def of_tokens(folder: Path, name: str) -> dict[str, Any]:
    """Settings of a run on text."""
    return {
        "model": str(folder / ("base" if name in ADAPTERS else f"{name}.json")),
        "data": (str(folder / "text.txt"),),
        "batch_size": 4,
        "slice_size": 1,
        "max_seq_length": 16,
        "vocabulary_size": 300,
        **OTHERWISE.get(name, {}),
        **ADAPTERS.get(name, {}),
    }


def of_vectors(folder: Path, name: str) -> dict[str, Any]:
    """Settings of a run on arrays: two slices a step, of more than eight blocks of rows each."""
    return {
        "model": "perceptron",
        "data": (str(folder / "vectors.npz"),),
        "batch_size": 18 * BLOCK_ROWS + 2,
        "slice_size": 9 * BLOCK_ROWS + 1,
        "warmup_steps": 0,
        "max_seq_length": 1,
        **VECTORS[name],
    }


def write_data(folder: Path) -> None:
    """What the runs learn from, and the models that they begin with."""
    (folder / "text.txt").write_text("A loom weaves threads into cloth, over and under. " * 60)
    x = np.random.default_rng(1).normal(size=(20 * BLOCK_ROWS, 5)).astype(np.float32)
    np.savez(folder / "vectors.npz", x=x, y=np.sin(x[:, :3]))
    write_tiny_folder(folder / "base")
    for kind, sizes in SIZES.items():
        (folder / f"{kind}.json").write_text(json.dumps(sizes))


def main() -> None:
    """Runs everything; an assertion or a sanitizer's finding fails it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WEFT_HOME"] = str(folder / "home")
        write_data(folder)
        kinds = [*SIZES, *ADAPTERS, *VECTORS]
        alone = {kind: checksum(folder, kind, 1, 1) for kind in kinds}

        def check(kind: str, threads: int, teams: int) -> Callable[[], None]:
            def work() -> None:
                found = checksum(folder, kind, threads, teams)
                assert found == alone[kind], f"{kind} with {threads} threads in {teams} teams"

            return work

        for threads, teams in TEAMS:
            at_once(*(check(kind, threads, teams) for kind in kinds))
    print("all weights are the same")


if __name__ == "__main__":
    main()
