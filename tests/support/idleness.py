"""Whether this process rests, on a machine that may be busy."""

from __future__ import annotations

import time

_WINDOW_S, _MOST_CPU_S, _TRIES = 0.5, 0.01, 20


def becomes_idle() -> bool:
    """Whether this process soon uses no CPU for half a second.

    On a busy machine threads that are about to sleep get to it late, so it looks again.
    """
    for _ in range(_TRIES):
        before = time.process_time()
        time.sleep(_WINDOW_S)
        if time.process_time() - before < _MOST_CPU_S:
            return True
    return False
