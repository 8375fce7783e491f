"""Who runs the steps: whichever thread waits for a result runs them for all that wait, one at a time.

No thread of weft's own is needed: an engine that nobody waits for does nothing. The scheme is that of flat
combining (Hendler et al., 2010), with a step in place of a pass.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Driver:
    """Runs `step` until what a thread waits for has come. May be called from several threads at once.

    `step` gives whether there was anything to do. It is never run by two threads at once, and never
    interrupted by Ctrl-C: KeyboardInterrupt is raised between steps.
    """

    def __init__(self, step: Callable[[], bool]) -> None:
        self._step = step
        self._lock = threading.Lock()
        self._driving = False
        self._waiters: list[_Waiter] = []

    def run_until(self, done: Callable[[], bool]) -> None:
        """Returns when `done` is true or nothing is left to do; `done` is cheap and takes no lock.

        Raises what `step` raises, in the thread that ran it, and KeyboardInterrupt.
        """
        if done():
            return
        with _InterruptBetweenSteps() as interrupt:
            if self._become_driver_or_wait(done, interrupt):
                try:
                    self._drive(done, interrupt)
                finally:
                    self._hand_over()

    def run_between_steps(self, action: Callable[[], None], done: Callable[[], bool]) -> None:
        """Runs `action` while no step runs, unless another thread's steps make `done` true before."""
        with _InterruptBetweenSteps() as interrupt:
            if self._become_driver_or_wait(done, interrupt):
                try:
                    action()
                finally:
                    self._hand_over()

    def _become_driver_or_wait(self, done: Callable[[], bool], interrupt: _InterruptBetweenSteps) -> bool:
        """Whether this thread drives now; False once `done` is true by another's steps."""
        with self._lock:
            if not self._driving:
                self._driving = True
                return True
            waiter = _Waiter(done, threading.Condition(self._lock))
            self._waiters.append(waiter)
            try:
                with interrupt.allowed():
                    while self._driving and not done():
                        waiter.condition.wait()
                if done():
                    self._wake_one()
                    return False
                self._driving = True
                return True
            finally:
                self._waiters.remove(waiter)

    def _drive(self, done: Callable[[], bool], interrupt: _InterruptBetweenSteps) -> None:
        while not done() and self._step():
            if self._waiters:
                self._wake_those_done()
            if interrupt.came:
                return

    def _wake_those_done(self) -> None:
        with self._lock:
            for waiter in self._waiters:
                if waiter.done():
                    waiter.condition.notify()

    def _hand_over(self) -> None:
        with self._lock:
            self._driving = False
            for waiter in self._waiters:
                if waiter.done():
                    waiter.condition.notify()
            self._wake_one()

    def _wake_one(self) -> None:
        """Wakes a thread that will drive, where nobody drives and somebody still waits."""
        if self._driving:
            return
        for waiter in self._waiters:
            if not waiter.done():
                waiter.condition.notify()
                return


class _Waiter:
    __slots__ = ("condition", "done")

    def __init__(self, done: Callable[[], bool], condition: threading.Condition) -> None:
        self.done = done
        self.condition = condition


class _InterruptBetweenSteps:
    """While it lasts, Ctrl-C in the main thread is noted instead of raised, and raised at the end.

    Only where Python's own handler is in place: whoever set another one has other plans.
    """

    def __init__(self) -> None:
        self.came = False
        self._active = False
        self._raise_now = False

    def __enter__(self) -> _InterruptBetweenSteps:
        if threading.current_thread() is threading.main_thread():
            self._active = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._active:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.came and error[0] is None:
                raise KeyboardInterrupt

    def allowed(self) -> _InterruptAllowed:
        """A context in which Ctrl-C is raised at once: while this thread only waits."""
        return _InterruptAllowed(self)

    def set_raise_now(self, raise_now: bool) -> None:
        """Whether Ctrl-C is raised at once."""
        self._raise_now = raise_now

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self._raise_now:
            raise KeyboardInterrupt


class _InterruptAllowed:
    def __init__(self, interrupt: _InterruptBetweenSteps) -> None:
        self._interrupt = interrupt

    def __enter__(self) -> None:
        self._interrupt.set_raise_now(True)
        if self._interrupt.came:
            raise KeyboardInterrupt

    def __exit__(self, *error: Any) -> None:
        self._interrupt.set_raise_now(False)
