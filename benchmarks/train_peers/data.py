"""What every trainer shares: sizes and rates of the works, and their batches, with NumPy alone.

The token works read `tokens.npy`, which benchmarks/peers/setup.sh makes; batch number s holds the tokens from
s * rows * columns on, so every engine that is given the same file sees the same data in the same order.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 1234
VOCABULARY = 50_257
WEIGHT_DECAY = 0.01  # of matrices; vectors do not decay
SHAPES = {  # rows and columns of a batch: sequences and their tokens, or vectors and their features
    "full": (8, 256),
    "lora": (8, 256),
    "gpt2": (8, 256),
    "lstm": (16, 128),
    "perceptron": (4096, 64),
}
LEARNING_RATES = {"full": 1e-5, "lora": 2e-4, "gpt2": 6e-4, "lstm": 1e-3, "perceptron": 0.1}
INITIAL = {  # the folder, among the models, that a work begins from
    "full": "SmolLM2-135M-Instruct",
    "lora": "SmolLM2-135M-Instruct",
    "gpt2": "gpt2-initial",
    "lstm": "lstm-initial",
    "perceptron": "perceptron-initial",
}


def counted_per_step(work: str) -> int:
    """Return the tokens of a step, or the vectors where there are no tokens."""
    rows, columns = SHAPES[work]
    return rows if work == "perceptron" else rows * columns


def token_batches(
    path: Path, rows: int, columns: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Yield tokens and targets [rows, columns] in the file's order, from the start again at its end."""
    tokens = np.load(path).astype(np.int32)
    size = rows * columns
    while True:
        for start in range(0, len(tokens) - size - 1, size):
            yield (
                tokens[start : start + size].reshape(rows, columns),
                tokens[start + 1 : start + size + 1].reshape(rows, columns),
            )


def vector_batches(rows: int, columns: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield inputs [rows, columns] and targets [rows, 16] of a fixed random network of the same shape."""
    random = np.random.default_rng(SEED)
    first = random.standard_normal((columns, 256), dtype=np.float32) / 8
    second = random.standard_normal((256, 16), dtype=np.float32) / 16
    inputs = [random.standard_normal((rows, columns), dtype=np.float32) for _ in range(16)]
    pairs = [(one, np.tanh(one @ first) @ second) for one in inputs]
    while True:
        yield from pairs
