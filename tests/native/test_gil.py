"""Other Python threads go on while a plan runs: the native call holds no GIL."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from support.native_plans import Pool, build, compile, pack

from weft import ops
from weft.types import DType


@pytest.fixture
def ticks():
    """The times at which another thread had its turn."""
    times: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.is_set():
            times.append(time.monotonic())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    yield times
    ended.set()
    thread.join()


def test_a_run_lets_other_threads_go_on(ticks):
    size = 1536
    with Pool(1) as pool:
        weight = pack(np.ones((size, size), np.float32), pool)

        def model(r):
            x = r.input("x", columns=size, dtype=DType.F32)
            for _ in range(8):
                x = ops.linear(x, r.weight("w"))
            r.output("out", x)

        plan = build({"w": weight}, model, size)
        executable = compile(plan, pool, {"w": weight}, {})
        inputs = {"x": np.zeros((size, size), np.float32)}
        begin = time.monotonic()
        executable.run(inputs)
        end = time.monotonic()
    # Well within the run, as its begin and end are Python's.
    margin = (end - begin) / 4
    assert any(begin + margin < at < end - margin for at in ticks), (end - begin, len(ticks))
