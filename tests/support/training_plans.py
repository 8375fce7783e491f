"""Operations of training run natively beside their NumPy reference: outputs, and what tensors became."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from support.native_plans import THREADS, build, executables

from weft.plan import Recorder
from weft.plan.reference import ReferenceExecutable
from weft.runtime import Tensor, Weight
from weft.types import Array


def run_training(
    model: Callable[[Recorder], None],
    weights: Mapping[str, Array | Weight],
    inputs: Mapping[str, Array],
    rows: int = 64,
) -> dict[str, tuple[Array, Array]]:
    """(native, reference) of each output and each tensor by name, after one run; arrays are tensors. Native
    bits must not depend on the number of threads.
    """
    plan = build(_fresh(weights), model, rows)
    reference = ReferenceExecutable(plan, _fresh(weights))
    expected = reference.run(inputs)
    tensors = [name for name in plan.parameters if isinstance(weights[name], np.ndarray)]
    expected |= {name: reference.parameters[name] for name in tensors}
    first: dict[str, Array] = {}
    for threads in THREADS:
        bound = _fresh(weights)
        ((executable, _),) = executables(plan, bound, [threads])
        with executable.pool:
            got = executable.run(inputs)
        got |= {name: bound[name].dequantize() for name in tensors}
        first = first or got
        for name, values in got.items():
            np.testing.assert_array_equal(values.view(np.uint32), first[name].view(np.uint32), name)
    return {name: (first[name], values) for name, values in expected.items()}


def _fresh(weights: Mapping[str, Array | Weight]) -> dict[str, Tensor | Weight]:
    return {
        name: Tensor(weight.copy()) if isinstance(weight, np.ndarray) else weight
        for name, weight in weights.items()
    }


def close(pairs: Mapping[str, tuple[Array, Array]], rtol: float = 1e-6) -> None:
    """Each pair agrees within `rtol` of each value, or of its largest one."""
    for name, (got, expected) in pairs.items():
        assert got.shape == expected.shape
        atol = rtol * np.abs(expected).max(initial=1)
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=name)
