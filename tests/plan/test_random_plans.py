"""Random graphs: fusing changes nothing, and no buffer is overwritten while it lives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arena_run import ArenaRun
from support.random_plans import MAX_SIZES, RandomGraph

from weft.plan import freeze
from weft.plan.memory import ALIGNMENT_BYTES, check_placement
from weft.plan.reference import ReferenceExecutable

GRAPHS = given(seed=st.integers(0, 10**6), length=st.integers(1, 30))


@GRAPHS
@settings(max_examples=150, deadline=None)
def test_a_fused_plan_equals_the_plain_one(seed, length):
    graph = RandomGraph(seed, length)
    plain, fused = (freeze(graph.recording, MAX_SIZES, fuse=fuse) for fuse in (False, True))
    assert len(fused.nodes) <= len(plain.nodes)
    inputs = graph.inputs()
    expected = ReferenceExecutable(plain, graph.weights).run(inputs)
    got = ReferenceExecutable(fused, graph.weights).run(inputs)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values)


@GRAPHS
@pytest.mark.parametrize("fuse", [False, True])
@settings(max_examples=150, deadline=None)
def test_results_survive_in_the_arena(fuse, seed, length):
    graph = RandomGraph(seed, length)
    plan = freeze(graph.recording, MAX_SIZES, fuse=fuse)
    inputs = graph.inputs(rows=seed % 7 + 1)
    expected = ReferenceExecutable(plan, graph.weights).run(inputs)
    got = ArenaRun(plan, graph.weights, inputs, seed).run()
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-9, atol=1e-9)


@GRAPHS
@settings(max_examples=100, deadline=None)
def test_buffers_are_aligned_apart_and_tight(seed, length):
    plan = freeze(RandomGraph(seed, length).recording, MAX_SIZES)
    buffers = plan.placement.buffers
    check_placement(plan.placement)
    assert all(buffer.offset_bytes % ALIGNMENT_BYTES == 0 for buffer in buffers)
    assert all(buffer.columns == 1 or buffer.columns % 16 == 0 for buffer in buffers)
    assert max(buffer.offset_bytes + buffer.nbytes for buffer in buffers) == plan.peak_bytes
    assert plan.peak_bytes <= sum(buffer.nbytes for buffer in buffers)
