"""Every operation's gradients against torch's: the NumPy references in float64, native code in float32."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.gradient_cases import CASES, ROWS  # noqa: E402 (torch first)
from support.native_plans import THREADS, executables  # noqa: E402
from support.plain_tensor import trained  # noqa: E402

from weft import ops  # noqa: E402
from weft.ops.operation import Operation  # noqa: E402
from weft.plan import Recorder, freeze  # noqa: E402
from weft.plan.backward import backward  # noqa: E402
from weft.plan.reference import ReferenceExecutable  # noqa: E402
from weft.runtime import Tensor  # noqa: E402


def record(case, tensors):
    """A recording of the case, forward and backward."""
    r = Recorder(tensors)
    seeds = case.seeds(r)
    backward(r, seeds)
    r.output("result", next(iter(seeds)))  # a plan without results computes nothing
    return r


def torch_gradients(case, contents, inputs, dtype):
    tensors = {name: torch.tensor(array) for name, array in inputs.items()}
    tensors |= {name: value.to(dtype) for name, value in tensors.items() if value.is_floating_point()}
    for name in ("targets", "loss_weights", "positions"):
        tensors[name] = tensors[name][:, 0].long() if name == "targets" else tensors[name][:, 0]
    leaves = {name: torch.tensor(array).to(dtype).requires_grad_() for name, array in contents.items()}
    case.total(tensors | leaves).backward()
    return {name: leaf.grad.numpy() for name, leaf in leaves.items()}


@pytest.fixture(params=list(CASES))
def problem(request):
    case, generator = CASES[request.param], np.random.default_rng(11)
    return case, case.tensors(generator), case.inputs(generator)


def needed(plan, inputs):
    return {name: inputs[name] for name in plan.inputs}


def test_in_float64(problem):
    case, contents, inputs = problem
    tensors = trained(contents)
    plan = freeze(record(case, tensors).finish(), {"rows": ROWS})
    executable = ReferenceExecutable(plan, tensors)
    executable.run(needed(plan, inputs))
    for name, expected in torch_gradients(case, contents, inputs, torch.float64).items():
        gradient = executable.parameters[f"d_{name}"]
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-10, err_msg=name)


def test_in_float32(problem):
    case, contents, inputs = problem
    plan = freeze(record(case, trained(contents)).finish(), {"rows": ROWS})
    first = {}
    for threads in THREADS:
        bound = {name: Tensor(array.copy()) for name, array in contents.items()}
        gradients = {f"d_{name}": np.zeros_like(array) for name, array in contents.items()}
        bound |= {name: Tensor(gradient) for name, gradient in gradients.items()}
        ((executable, _),) = executables(plan, bound, [threads])
        with executable.pool:
            executable.run(needed(plan, inputs))
        first = first or gradients
        for name, gradient in gradients.items():
            assert gradient.tobytes() == first[name].tobytes(), (name, threads)
    for name, expected in torch_gradients(case, contents, inputs, torch.float32).items():
        atol = 3e-6 * np.abs(expected).max()
        np.testing.assert_allclose(first[f"d_{name}"], expected, rtol=1e-5, atol=atol, err_msg=name)


def test_no_operation_with_a_gradient_is_left_out():
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"weft.ops.{module.name}")
    known = (op for op in all_operations(Operation) if op.__module__.startswith("weft.ops."))
    concrete = {op for op in known if hasattr(op, "name")}
    with_gradient = {op for op in concrete if op.backward is not Operation.backward}
    gradients = {op for op in concrete if op.name.endswith("_grad")} | {type_of("squared_error", concrete)}
    seen = set()
    for case in CASES.values():
        contents = case.tensors(np.random.default_rng(0))
        seen |= {type(node.op) for node in record(case, trained(contents)).nodes}
    assert {op.name for op in (with_gradient | gradients) - seen} == set()
    assert len(with_gradient) >= 14 and len(gradients) >= 12


def all_operations(base):
    for op in base.__subclasses__():
        yield from (op, *all_operations(op))


def type_of(name, operations):
    return next(op for op in operations if op.name == name)
