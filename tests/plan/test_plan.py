"""Recording, fusing, placing and printing of plans, case by case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.plain_weight import PlainWeight

from weft import ops
from weft.errors import ConfigError, PlanError
from weft.plan import Recorder, freeze
from weft.plan.cost import run_sizes
from weft.plan.memory import Placement, check_placement
from weft.plan.printing import format_bytes, format_count
from weft.plan.reference import ReferenceExecutable
from weft.types import CacheType, DType

D, F, V = 32, 48, 100


def weights():
    shapes = {"embedding": (V, D), "up": (F, D), "gate_up": (2 * F, D), "down": (D, F), "square": (D, D)}
    vectors = {"norm": D, "up_bias": F}
    packed = {
        name: PlainWeight(np.ones(shape, np.float32), interleaved=name == "gate_up")
        for name, shape in shapes.items()
    }
    return packed | {name: np.ones(size, np.float32) for name, size in vectors.items()}


@pytest.fixture
def r():
    return Recorder(weights())


@pytest.fixture
def h(r):
    return ops.embedding(r.input("tokens"), r.weight("embedding"))


def finish(r, value, rows=8, **options):
    r.output("out", value)
    return freeze(r.finish(), {"rows": rows}, **options)


def described(plan):
    return [(node.op.name, [plain.op.name for plain in node.plain]) for node in plan.nodes]


def test_a_gated_block_becomes_two_products(r, h):
    x = ops.rms_norm(h, r.weight("norm"), 1e-5)
    x = ops.silu_gate(ops.linear(x, r.weight("gate_up")))
    plan = finish(r, ops.add(h, ops.linear(x, r.weight("down"))))
    assert described(plan)[1:] == [
        ("linear", ["rms_norm", "linear", "silu_gate"]),
        ("linear", ["linear", "add"]),
    ]
    gated, down = plan.nodes[1:]
    assert gated.op.attrs == {
        "norm": "rms_norm",
        "eps": 1e-5,
        "activation": "silu_gate",
        "compute": "f32",
        "alternating": False,
        "narrow": False,
        "packs": "",
        "packed_rows": False,
    }
    assert set(gated.operands) == {"x", "weight", "norm_weight"} and gated.outputs[0].type.columns == F
    # The sum is written over the summand that nobody needs any more.
    assert plan.placement.place(down.outputs[0]) == plan.placement.place(plan.nodes[0].outputs[0])


def test_rows_between_a_gated_product_and_the_next_lie_packed():
    sizes = {"embedding": (V, D), "gate_up": (256, D), "down": (D, 128)}
    r = Recorder(
        {
            name: PlainWeight(np.ones(size, np.float32), interleaved=name == "gate_up")
            for name, size in sizes.items()
        }
    )
    h = ops.embedding(r.input("tokens"), r.weight("embedding"))
    gated = ops.silu_gate(ops.linear(h, r.weight("gate_up")))
    r.output("down", ops.linear(gated, r.weight("down")))
    first, second = freeze(r.finish(), {"rows": 8}).nodes[1:]
    assert (first.op.packs, first.op.packed_rows) == ("f32", False)
    assert (second.op.packs, second.op.packed_rows) == ("", True)
    r.output("gated", gated)
    assert not any(node.op.attrs.get("packs") for node in freeze(r.finish(), {"rows": 8}).nodes)


def test_gelu_and_layer_norm_fuse_with_their_biases(r, h):
    x = ops.layer_norm(h, r.weight("norm"), r.weight("norm"), 1e-5)
    x = ops.gelu(ops.linear(x, r.weight("up"), r.weight("up_bias")), "tanh")
    plan = finish(r, ops.linear(x, r.weight("down")))
    assert plan.nodes[1].op.attrs == {
        "norm": "layer_norm",
        "eps": 1e-5,
        "activation": "gelu_tanh",
        "compute": "f32",
        "alternating": False,
        "narrow": False,
        "packs": "",
        "packed_rows": False,
    }
    assert set(plan.nodes[1].operands) == {"x", "weight", "bias", "norm_weight", "norm_bias"}


def test_a_norm_that_others_read_stays(r, h):
    x = ops.rms_norm(h, r.weight("norm"), 1e-5)
    plan = finish(r, ops.add(x, ops.linear(x, r.weight("square"))))
    assert described(plan)[1:] == [("rms_norm", ["rms_norm"]), ("linear", ["linear", "add"])]


def test_a_norm_before_several_products_fuses_with_each(r, h):
    x = ops.rms_norm(h, r.weight("norm"), 1e-5)
    plan = finish(r, ops.add(ops.linear(x, r.weight("square")), ops.linear(x, r.weight("square"))))
    assert described(plan)[1:] == [
        ("linear", ["rms_norm", "linear"]),
        ("linear", ["rms_norm", "linear", "add"]),
    ]


def test_results_of_the_plan_are_not_fused_away(r, h):
    product = ops.linear(h, r.weight("square"))
    r.output("product", product)
    plan = finish(r, ops.add(h, product))
    assert described(plan)[1:] == [("linear", ["linear"]), ("add", ["add"])]


def test_a_plain_weight_leaves_the_gate_apart(r, h):
    plan = finish(r, ops.silu_gate(ops.linear(h, r.weight("up"))))
    assert described(plan)[1:] == [("linear", ["linear"]), ("silu_gate", ["silu_gate"])]


def test_parts_of_a_product_are_columns_of_one_buffer(r, h):
    q, k = ops.linear(h, r.weight("square")).split(20, 12)
    inv_freq = r.constant("inv_freq", np.ones(2))
    q = ops.rotary(q, r.input("positions"), inv_freq, 5, 4)
    k = ops.rotary(k, r.input("positions"), inv_freq, 3, 4)
    r.output("k", k)
    plan = finish(r, q)
    place = plan.placement.place
    assert place(q).buffer == place(k).buffer and (place(q).first_column, place(k).first_column) == (0, 20)


def test_what_is_put_side_by_side_is_made_there(r, h):
    a, b = ops.linear(h, r.weight("square")), ops.linear(h, r.weight("up"))
    joined = ops.concat(a, b)
    place = finish(r, ops.linear(joined.columns(0, D), r.weight("square"))).placement.place
    assert place(a) == place(joined) and place(b).buffer == place(a).buffer and place(b).first_column == D


def test_parts_that_lie_side_by_side_stay(r, h):
    whole = ops.linear(h, r.weight("square"))
    joined = ops.concat(*whole.split(16, 16))
    place = finish(r, ops.gelu(joined)).placement.place
    assert place(joined) == place(whole)


def test_a_matrix_beside_itself_is_copied(r, h):
    x = ops.linear(h, r.weight("square"))
    joined = ops.concat(x, x)
    place = finish(r, joined).placement.place
    assert place(x).buffer != place(joined).buffer


def test_a_part_that_is_read_after_the_whole_is_overwritten_lies_apart(r, h):
    a, b = ops.linear(h, r.weight("square")), ops.linear(h, r.weight("square"))
    over = ops.gelu(ops.concat(a, b))
    place = finish(r, ops.add(over.columns(0, D), a)).placement.place
    assert place(a).buffer != place(over).buffer


def test_neighbours_of_a_chain_do_not_share_memory(r, h):
    # Row-wise operations run without a barrier between them: a dead value's bytes are not free at once.
    x = ops.silu_gate(ops.silu_gate(h))
    plan = finish(r, x)
    offsets = {buffer.offset_bytes for buffer in plan.placement.buffers}
    assert len(offsets) == len(plan.placement.buffers) == 3


def test_an_operand_is_not_overwritten_while_its_columns_are_read(r, h):
    x = ops.gelu(h)
    # Other rows and columns of a product still read x; other columns of a sum its neighbours.
    plan = finish(r, ops.add(ops.linear(x, r.weight("square")), x))
    assert described(plan)[-1] == ("linear", ["linear", "add"])
    place = plan.placement.place
    assert place(plan.outputs["out"]) != place(x)
    r = Recorder(weights())
    y = ops.gelu(ops.embedding(r.input("tokens"), r.weight("embedding")))
    plan = finish(r, ops.add(y.columns(0, 16), y.columns(8, 16)))
    assert plan.placement.place(plan.outputs["out"]).buffer != plan.placement.place(y).buffer
    r = Recorder(weights())
    y = ops.gelu(ops.embedding(r.input("tokens"), r.weight("embedding")))
    plan = finish(r, ops.add(y, y))
    assert plan.placement.place(plan.outputs["out"]) == plan.placement.place(y)


def test_the_table_tells_shapes_costs_places_and_totals(r, h):
    plan = finish(r, ops.add(h, ops.linear(h, r.weight("square"))), rows=64)
    text = str(plan)
    assert "linear+add" in text and "f32[rows, 32]" in text and "f32[32, 32]" in text
    assert f"peak memory of activations {format_bytes(plan.peak_bytes)}" in text
    assert format_count(plan.flops(64)) in text and "rows ≤ 64" in text
    assert len(text.splitlines()) == len(plan.nodes) + 3


def test_costs_grow_with_rows_and_weights_do_not(r, h):
    plan = finish(r, ops.linear(h, r.weight("square")), rows=64)
    assert plan.flops(1) == 2 * D * D and plan.flops(64) == 64 * plan.flops(1)
    assert plan.bytes(2) - plan.bytes(1) == plan.bytes(3) - plan.bytes(2)
    assert plan.bytes(1) > D * D * 4


def test_sizes_of_a_run_have_sensible_rest():
    assert run_sizes(9, {"rows": 64, "outputs": 4}) == {
        "rows": 9,
        "outputs": 4,
        "sequences": 1,
        "context": 5,
    }
    assert run_sizes({"rows": 2, "context": 700}, {"rows": 64, "outputs": 4})["context"] == 700


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1234, "1.23 k"), (2e15, "2 P"), (3e21, "3000000 P")]
)
def test_counts_are_short(count, text):
    assert format_count(count) == text


def test_what_cannot_be_recorded_is_refused(r, h):
    with pytest.raises(PlanError, match="weight 'missing'"):
        r.weight("missing")
    with pytest.raises(PlanError, match="sum to 32"):
        h.split(16, 15)
    with pytest.raises(PlanError, match="inside 0 to 32"):
        h.columns(20, 20)
    with pytest.raises(PlanError, match="declared before"):
        r.input("tokens", columns=2)
    with pytest.raises(PlanError, match="operands of this recording"):
        ops.add(h, Recorder(weights()).input("x", columns=D, dtype=DType.F32))
    with pytest.raises(PlanError, match="an input"):
        r.output("tokens", r.input("tokens"))
    with pytest.raises(PlanError, match="operations and outputs"):
        r.finish()
    r.constant("c", np.ones(2))
    with pytest.raises(PlanError, match="others"):
        r.constant("c", np.zeros(2))
    r.cache("cache", CacheType(1, 1, 4))
    with pytest.raises(PlanError, match="declared before"):
        r.cache("cache", CacheType(2, 1, 4))
    r.output("h", h)
    with pytest.raises(PlanError, match="once"):
        r.output("h", h)
    with pytest.raises(PlanError, match="largest size for dimension 'rows'"):
        freeze(r.finish(), {"outputs": 3})
    with pytest.raises(PlanError, match="at least 1"):
        freeze(r.finish(), {"rows": 0})


def test_a_matrix_as_a_vector_is_refused():
    with pytest.raises(PlanError, match="got an array"):
        Recorder({"norm": np.ones((2, 2))}).weight("norm")


def test_overlapping_buffers_are_noticed(r, h):
    plan = finish(r, ops.silu_gate(h))
    first = plan.placement.buffers[0]
    twice = (first, replace(first, offset_bytes=first.offset_bytes + 64))
    with pytest.raises(PlanError, match="apart"):
        check_placement(Placement(twice, {}, plan.peak_bytes))


def test_the_interpreter_names_wrong_inputs(r, h):
    executable = ReferenceExecutable(finish(r, ops.gelu(h)), r.weights)
    with pytest.raises(ConfigError, match="'tokens'"):
        executable.run({})
    with pytest.raises(ConfigError, match="reshape"):
        executable.run({"tokens": np.zeros(3, np.int32)})
