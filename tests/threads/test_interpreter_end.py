"""Threads that are within the native core when the interpreter ends, or when the process forks."""

from __future__ import annotations

import os

import pytest
from support.interpreter import run_python

PLAN = """
import os, threading, time
import numpy as np
import weft
from weft.runtime import Weight, WeightPart, native

ROWS = 1 << 15
node = {"op": "add", "attrs": {}, "operands": {"a": ("input", 0), "b": ("input", 0)},
        "outputs": {"out": ("buffer", 0, 0, 64)}}
plan = native().Plan(nodes=[node], buffers=[("rows", 64, "f32", 0)], inputs=[("x", "rows", 64, "f32")],
                     outputs=[], dims={"rows": ROWS}, arena_bytes=ROWS * 256)
x = np.ones((ROWS, 64), np.float32)

def for_ever(call):
    def loop():
        while True:
            try:
                call()
            except weft.errors.ThreadError:
                pass  # the pool is closed
    threading.Thread(target=loop, daemon=True).start()
    time.sleep(0.2)
"""


@pytest.mark.parametrize(
    "code",
    [
        "pool = weft.Pool(threads=2)\nfor_ever(lambda: plan.run(pool.handle, {'x': x}))",
        "pool = native().Pool(2)\nfor_ever(lambda: plan.run(pool, {'x': x}))",
        "pool = native().Pool(3)\nfor_ever(lambda: pool.map(time.sleep, [1e-3] * 10**6))",
        "pool = native().Pool(3)\nfor_ever(lambda: pool.map(lambda i: i * i, range(10**4)))",
        "pool = native().Pool(3)\nfor _ in range(100): pool.submit(time.sleep, 0.01)",
        "part = WeightPart('F32', 2048, 1024, np.ones((2048, 1024), np.float32))\n"
        "for_ever(Weight.pack(weft.Pool(1), [part]).dequantize)",
    ],
)
def test_daemon_threads_do_not_abort_the_process(code: str) -> None:
    result = run_python(PLAN + code)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_plan_that_ran_at_the_fork_is_refused_in_the_child() -> None:
    result = run_python(
        PLAN
        + """
pool = weft.Pool(threads=2)
idle = native().Plan(nodes=[], buffers=[], inputs=[], outputs=[], dims={}, arena_bytes=0)
begun, end = threading.Event(), threading.Event()

def hold(_):
    begun.set()
    end.wait(60)

held = threading.Thread(target=pool.map, args=(hold, [0]))
held.start()
begun.wait(60)
threading.Thread(target=plan.run, args=(pool.handle, {"x": x})).start()  # waits for the team
time.sleep(0.2)
child = os.fork()
if child == 0:
    with weft.Pool(threads=2) as fresh:
        idle.run(fresh.handle, {})
        try:
            plan.run(fresh.handle, {"x": x})
        except weft.errors.ThreadError as error:
            os._exit(0 if "fork" in str(error) else 2)
    os._exit(3)
end.set()
assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert result.returncode == 0, result.stderr
