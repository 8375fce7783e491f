"""What the native core refuses by itself: plans that are described wrongly, objects that are missing, inputs
that do not last.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from weft.errors import ConfigError, OutOfMemoryError, PlanError, WeftError
from weft.runtime import Pool, Weight, WeightPart, measure_limits
from weft.runtime.native import native
from weft.types import Array

COLUMNS = 4
MAX_ROWS = 8
WRITES_INPUT = {
    "op": "scale",
    "attrs": {"factor": 2},
    "operands": {"x": ("input", 0)},
    "outputs": {"out": ("input", 0)},
}


def make_plan(op: str = "add", operands: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A plan of one operation, y = x + x where nothing else is said; `changes` replace what describes it."""
    operands = operands or {"a": ("input", 0), "b": ("input", 0)}
    node = {"op": op, "attrs": {}, "operands": operands, "outputs": {"out": ("buffer", 0, 0, COLUMNS)}}
    description: dict[str, Any] = {
        "nodes": [node],
        "buffers": [("rows", COLUMNS, "f32", 0)],
        "inputs": [("x", "rows", COLUMNS, "f32")],
        "outputs": [("y", ("buffer", 0, 0, COLUMNS))],
        "dims": {"rows": MAX_ROWS},
        "arena_bytes": 4096,
    }
    return native().Plan(**{**description, **changes})


def ones(rows: int = MAX_ROWS) -> Array:
    return np.ones((rows, COLUMNS), np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {"dims": {"rows": 1 << 60}},  # whose bytes are none, modulo 2^64
        {"dims": {"rows": -5}},
        {"buffers": [("rows", COLUMNS, "f32", (1 << 64) - 128)]},
        {"buffers": [("rows", COLUMNS, "f32", 4032)]},
        {"buffers": [("rows", 0, "f32", 0)]},
        {"buffers": [("rows", 1 << 62, "f32", 0)]},
        {"inputs": [("x", "rows", (1 << 32) + COLUMNS, "f32")]},
        {"outputs": [("y", ("buffer", 0, (1 << 63) - 4, 8))]},
        {"outputs": [("y", ("buffer", 0, -1, COLUMNS))]},
        {"outputs": [("y", ("input", 1))]},
        {"nodes": [WRITES_INPUT]},
    ],
)
def test_wrong_sizes_and_places(changes: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="rebuild the plan"):
        make_plan(**changes)


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        ("linear", {"x": ("input", 0), "weight": ("weight", None)}),
        ("linear", {"x": ("input", 0), "weight": ("tensor", None)}),
        ("linear", {"x": ("input", 0), "weight": ("weight", "a name")}),
        ("layer_norm", {"x": ("input", 0), "weight": ("vector", None)}),
        ("layer_norm", {"x": ("input", 0), "weight": ("vector", [1.0] * COLUMNS)}),
        ("embedding", {"tokens": ("input", 0), "table": ("weight", None)}),
        ("kv_write", {"k": ("input", 0), "v": ("input", 0), "slots": ("input", 0), "cache": ("cache", None)}),
    ],
)
def test_missing_operands(op: str, operands: dict[str, Any]) -> None:
    with pytest.raises(
        PlanError, match=r"expects a (weight|tensor|vector of float32|KV cache), got another object"
    ):
        make_plan(op, operands)


def test_missing_tensors() -> None:
    update = native().update_weights
    numbers = (0.1, 0.9, 0.99, 1e-8, 0.0, 0.0, False, 1.0, 1)
    tensor = native().Tensor(np.ones(3, np.float32))
    with Pool(2) as pool:
        for call in (
            lambda: native().gradient_norm(pool.handle, [None]),
            lambda: update(pool.handle, "sgd", [None], [None], [], [], *numbers),
            lambda: update(pool.handle, "sgd", [tensor], [None], [], [], *numbers),
            lambda: native().RowBlocks([None], [[]], []),
            lambda: native().RowBlocks([make_plan()], [[None]], [tensor]),
            lambda: native().RowBlocks([make_plan()], [[tensor]], [None]),
        ):
            with pytest.raises(WeftError):
                call()


def test_outputs_of_every_type() -> None:
    copied = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i32": np.int32, "i64": np.int64}
    with Pool(1) as pool:
        for name, dtype in copied.items():
            values = np.arange(3 * COLUMNS).reshape(3, COLUMNS).astype(dtype)
            plan = make_plan(nodes=[], inputs=[("x", "rows", COLUMNS, name)], outputs=[("y", ("input", 0))])
            result = plan.run(pool.handle, {"x": values})["y"]
            assert result.dtype == dtype
            assert np.array_equal(result, values)


def test_weights_read_the_same_where_denormals_are_flushed() -> None:
    torch = pytest.importorskip("torch")
    small = np.full((32, 32), 1e-5, np.float32)  # whose scale is a denormal of 16 bits
    with Pool(1) as pool:
        weight = Weight.pack(pool, [WeightPart("F32", 32, 32, small)], target="q8")
    expected = weight.dequantize()
    assert torch.set_flush_denormal(True)
    try:
        values = weight.dequantize()
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(values, expected) and values.min() > 0


class Fleeting:
    """An array that exists only as long as whoever asked for it keeps it."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __dlpack__(self, **options: Any) -> Any:
        return np.full((self.rows, COLUMNS), 3, np.float32).__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def test_arrays_made_for_a_call_last_as_long() -> None:
    rows = 1 << 18  # large enough for pages of their own
    changes = {"dims": {"rows": rows}, "arena_bytes": rows * COLUMNS * 4}
    with Pool(2) as pool:
        assert np.all(make_plan(**changes).run(pool.handle, {"x": Fleeting(rows)})["y"] == 6)
        tensor = native().Tensor(Fleeting(rows))
        assert native().gradient_norm(pool.handle, [tensor]) == 3 * (rows * COLUMNS) ** 0.5


def test_plan_without_dimensions() -> None:
    cache = native().KvCache(1, 1, COLUMNS, 1)
    node = {
        "op": "kv_write",
        "attrs": {"layer": 0, "kv_heads": 1, "head_dim": COLUMNS},
        "operands": {"k": ("input", 0), "v": ("input", 0), "slots": ("input", 1), "cache": ("cache", cache)},
        "outputs": {},
    }
    inputs = [("x", "", COLUMNS, "f32"), ("slots", "", 1, "i32")]
    plan = make_plan(nodes=[node], buffers=[], inputs=inputs, outputs=[], dims={}, arena_bytes=0)
    with Pool(2) as pool:
        given = {"x": ones(3), "slots": np.arange(3, dtype=np.int32)[:, None]}
        assert plan.run(pool.handle, given) == {}


def test_huge_caches() -> None:
    for sizes in ((1, 1, (1 << 63) - 1, 1), (1 << 62, 4, 1, 1), (1, 1, 1 << 62, 1)):
        with pytest.raises(OutOfMemoryError, match=r"needs more than 2\^63 bytes"):
            native().KvCache(*sizes)
    with pytest.raises(ConfigError):
        native().KvCache(1, 1, -1, 1)


def test_a_trace_that_runs_and_readers_share() -> None:
    trace, num_runs = native().Trace(), 400
    done = threading.Event()

    def run(team: int) -> None:
        plan = make_plan()
        for _ in range(num_runs):
            plan.run(pool.handle, {"x": ones()}, team, trace)

    def read() -> None:
        while not done.is_set():
            spans = trace.spans()
            assert np.all(spans["end_ns"] >= spans["begin_ns"])
            trace.clear()

    with Pool(4, teams=2) as pool:
        runs = [threading.Thread(target=run, args=(team,)) for team in (0, 1)]
        reader = threading.Thread(target=read)
        for thread in (*runs, reader):
            thread.start()
        for thread in runs:
            thread.join(60)
        done.set()
        reader.join(60)


def test_limits_with_more_threads_than_cores() -> None:
    with Pool(2 * native().affinity_cores() + 1) as pool:
        limits = measure_limits(pool)
    assert min(limits.f32_flops, limits.read_bytes_per_second) > 1e8
