"""A run that waits while its pool is resized takes the number of threads that it then finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from weft.errors import ThreadError
from weft.models.vector_perceptron import VectorConfig, build_vector_plan, initial_vector_weights
from weft.row_blocks import BLOCK_ROWS, compile_blocks
from weft.runtime import Pool, Tensor, compile
from weft.types import Array

SIZES = 5, 3
CONFIG = VectorConfig(tuple("abcde"), tuple("xyz"), 40)
ROWS = 8 * BLOCK_ROWS
WEIGHTS = initial_vector_weights(CONFIG, 3)


def inputs() -> dict[str, Array]:
    generator = np.random.default_rng(1)
    x, y = (generator.normal(size=(ROWS, size)).astype(np.float32) for size in SIZES)
    order = np.arange(ROWS, dtype=np.int32)[:, None]
    return {"x": x, "targets": y, "rows": order, "loss_weights": np.full((ROWS, 1), 1 / ROWS, np.float32)}


def resized_while_it_waits(pool: Pool, threads: int, run: Callable[[], Array]) -> Array:
    """Has `run` wait for a tile, behind a resize that waits for it, too."""
    begun, end = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        begun.set()
        end.wait(60)

    with ThreadPoolExecutor(3) as callers:
        held = callers.submit(pool.map, hold, [0])
        begun.wait(60)
        resized = callers.submit(pool.resize, threads)
        time.sleep(0.1)  # it is in the queue
        result = callers.submit(run)
        time.sleep(0.1)
        end.set()
        for other in (held, resized):
            other.result(60)
        return result.result(60)


@pytest.mark.parametrize("threads", [1, 8])
def test_a_plan_has_scratch_for_the_threads_it_gets(threads: int) -> None:
    gradients = {f"d_{name}": np.zeros_like(weight) for name, weight in WEIGHTS.items()}
    bound = {name: Tensor(array) for name, array in (WEIGHTS | gradients).items()}
    with Pool(2 if threads == 1 else 1) as pool:
        executable = compile(build_vector_plan(bound, *SIZES, ROWS, "train"), pool, bound)
        expected = executable.run(inputs())["loss"]
        loss = resized_while_it_waits(pool, threads, lambda: executable.run(inputs())["loss"])
        assert pool.num_threads == threads
    np.testing.assert_array_equal(loss, expected)


def test_blocks_of_rows_refuse_threads_without_a_plan() -> None:
    bound = {name: Tensor(weight) for name, weight in WEIGHTS.items()}
    gradients = {name: np.zeros_like(weight) for name, weight in WEIGHTS.items()}
    with Pool(1) as pool:
        plan = build_vector_plan(bound, *SIZES, BLOCK_ROWS, "train")
        executable = compile_blocks(plan, pool, bound, gradients)
        with pytest.raises(ThreadError, match="at most 1 threads, got 8"):
            resized_while_it_waits(pool, 8, lambda: executable.run(inputs())["loss"])
    assert all((gradient == 0).all() for gradient in gradients.values())
