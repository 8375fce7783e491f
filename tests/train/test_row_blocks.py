"""Steps run in blocks of rows: the gradients of the whole, the same bits for any threads and teams."""

from __future__ import annotations

import numpy as np
import pytest

from weft.errors import ConfigError, ThreadError
from weft.models.vector_perceptron import VectorConfig, build_vector_plan, initial_vector_weights
from weft.row_blocks import BLOCK_ROWS, compile_blocks, fits_blocks
from weft.runtime import Pool, Tensor, compile, new_trace

SIZES = 5, 3
CONFIG = VectorConfig(tuple("abcde"), tuple("xyz"), 40)


def inputs_of(rows):
    generator = np.random.default_rng(rows)
    x, y = (generator.normal(size=(rows, size)).astype(np.float32) for size in SIZES)
    order = generator.permutation(rows).astype(np.int32)[:, None]
    weights = np.full((rows, 1), 1 / max(rows, 1), np.float32)
    return {"x": x, "targets": y, "rows": order, "loss_weights": weights}


def in_blocks(rows, threads, teams, compute="bf16", trace=None):
    """Losses and gradients, which begin at 1."""
    weights = initial_vector_weights(CONFIG, 3)
    gradients = {name: np.ones_like(weight) for name, weight in weights.items()}
    bound = {name: Tensor(weight) for name, weight in weights.items()}
    plan = build_vector_plan(bound, *SIZES, BLOCK_ROWS, "train", compute)
    with Pool(threads, teams) as pool:
        executable = compile_blocks(plan, pool, bound, gradients)
        assert executable.memory_bytes > 0
        loss = executable.run(inputs_of(rows), trace=trace)["loss"]
    return loss, gradients


def at_once(rows, compute):
    weights = initial_vector_weights(CONFIG, 3)
    gradients = {name: np.ones_like(weight) for name, weight in weights.items()}
    bound = {name: Tensor(weight) for name, weight in weights.items()}
    bound |= {f"d_{name}": Tensor(gradient) for name, gradient in gradients.items()}
    with Pool(2) as pool:
        plan = build_vector_plan(bound, *SIZES, rows, "train", compute)
        loss = compile(plan, pool, bound).run(inputs_of(rows))["loss"]
    return loss, gradients


@pytest.mark.parametrize("compute", ["f32", "bf16"])
@pytest.mark.parametrize("rows", [1, 255, 257, 9 * BLOCK_ROWS + 1, 40 * BLOCK_ROWS])
def test_blocks_add_up_to_the_whole(rows, compute):
    (loss, gradients), (whole_loss, whole) = in_blocks(rows, 2, 1, compute), at_once(rows, compute)
    np.testing.assert_array_equal(loss, whole_loss)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("threads", "teams"), [(1, 1), (3, 1), (4, 2), (5, 3)])
def test_bits_do_not_depend_on_threads_and_teams(threads, teams):
    rows = 11 * BLOCK_ROWS + 7
    loss, gradients = in_blocks(rows, 2, 1)
    other_loss, others = in_blocks(rows, threads, teams)
    np.testing.assert_array_equal(loss, other_loss)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, others[name])


def test_a_run_without_rows_adds_nothing():
    loss, gradients = in_blocks(0, 2, 1)
    assert loss.shape == (0, 1)
    assert all((gradient == 1).all() for gradient in gradients.values())


def test_every_operation_of_a_block_is_traced():
    trace = new_trace()
    in_blocks(3 * BLOCK_ROWS, 2, 1, trace=trace)
    spans = trace.spans()
    assert (np.bincount(spans["node"], weights=spans["phase"] == 0) >= 1).all()
    assert set(spans["thread"]) <= {0, 1}


def test_what_does_not_fit_is_refused():
    weights = initial_vector_weights(CONFIG, 3)
    bound = {name: Tensor(weight) for name, weight in weights.items()}
    plan = build_vector_plan(bound, *SIZES, BLOCK_ROWS, "train")
    with Pool(1) as pool:
        executable = compile_blocks(plan, pool, bound, weights)
        given = inputs_of(9)
        with pytest.raises(ConfigError, match="9 and 8"):
            executable.run(given | {"loss_weights": given["loss_weights"][:8]})
        pool.resize(2)
        with pytest.raises(ThreadError, match="at most 1"):
            executable.run(given)


def test_large_weights_do_not_fit_blocks():
    assert fits_blocks({"hidden": np.zeros((256, 64), np.float32)})
    assert not fits_blocks({"hidden": np.zeros((1024, 1024), np.float32)})
