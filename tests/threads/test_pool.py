"""The public pool: loops, tasks, teams and their errors, from Python."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import pytest
from support.idleness import becomes_idle
from support.interpreter import run_python

from weft.errors import ConfigError, ThreadError
from weft.runtime import Pool, native

THREADS = (1, 2, 3, 8)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    ("begin", "end", "grain"), [(0, 0, 1), (5, 2, 1), (0, 1, 9), (-3, 40, 4), (0, 200, 1)]
)
def test_parallel_for_equals_the_loop(threads: int, begin: int, end: int, grain: int) -> None:
    expected = [(first, min(first + grain, end)) for first in range(begin, end, grain)]
    calls: list[tuple[int, int]] = []
    with Pool(threads) as pool:
        pool.parallel_for(begin, end, grain, lambda first, last: calls.append((first, last)))
    assert sorted(calls) == expected


@pytest.mark.parametrize("threads", THREADS)
def test_map_keeps_order(threads: int) -> None:
    with Pool(threads) as pool:
        assert pool.map(lambda x: x * x, (x for x in range(300))) == [x * x for x in range(300)]
        assert pool.map(str, []) == []


@pytest.mark.parametrize("threads", THREADS)
def test_exception_reaches_the_caller(threads: int) -> None:
    class OwnError(Exception):
        pass

    def fail(first: int, _last: int) -> None:
        if first == 17:
            raise OwnError(first)

    with Pool(threads) as pool:
        for _ in range(5):
            with pytest.raises(OwnError, match="17"):
                pool.parallel_for(0, 50, 1, fail)
            assert pool.map(abs, [-1, 2]) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda x: 1 // x, [1, 0])


def test_exception_does_not_outlive_its_handler() -> None:
    class Tracked:
        count = 0

        def __init__(self) -> None:
            Tracked.count += 1

        def __del__(self) -> None:
            Tracked.count -= 1

    def fail(_first: int, _last: int) -> None:
        tracked = Tracked()
        raise ValueError(tracked)

    with Pool(2) as pool:
        for _ in range(20):
            with pytest.raises(ValueError):
                pool.parallel_for(0, 8, 1, fail)
    assert Tracked.count <= 1  # pytest's own record of the last one


@pytest.mark.parametrize(
    "arguments",
    [
        {"threads": 0},
        {"threads": -2},
        {"threads": 5000},
        {"threads": 2, "teams": 3},
        {"threads": 2, "teams": 0},
        {"threads": 2, "spin_us": -5},
    ],
)
def test_bad_counts(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"expected .* got"):
        Pool(**arguments)


def test_bad_arguments() -> None:
    with Pool(2) as pool:
        with pytest.raises(ConfigError, match="grain"):
            pool.parallel_for(0, 4, 0, print)
        with pytest.raises(TypeError):
            pool.parallel_for(0, 4, 1, None)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="team"):
            pool.handle.team(1)


def test_nested_use_is_refused() -> None:
    with Pool(4, teams=2) as pool, Pool(2) as other:

        def nested(_first: int, _last: int) -> None:
            with pytest.raises(ThreadError, match="nested"):
                pool.parallel_for(0, 2, 1, lambda first, last: None)
            with pytest.raises(ThreadError, match="nested"):
                pool.handle.team(1).map(abs, [1])
            with pytest.raises(ThreadError):
                pool.close()
            assert other.map(abs, [-3]) == [3]

        pool.parallel_for(0, 6, 1, nested)


def test_submit_returns_futures() -> None:
    with Pool(3) as pool:
        futures: list[Future[Any]] = [pool.submit(pow, x, 2) for x in range(3000)]
        assert [future.result() for future in futures] == [x * x for x in range(3000)]
        assert pool.submit(dict, a=1).result() == {"a": 1}
        failing = pool.submit(int, "x")
        assert isinstance(failing.exception(), ValueError)
        assert sum(row["num_tasks"] for row in pool.statistics()) > 0


def test_submit_to_one_thread_runs_at_once() -> None:
    with Pool(1) as pool:
        future = pool.submit(threading.get_ident)
        assert future.done() and future.result() == threading.get_ident()


def test_waiting_task_can_be_cancelled() -> None:
    gate = threading.Event()
    with Pool(2) as pool:
        blocker = pool.submit(gate.wait, 300)
        while not blocker.running():
            time.sleep(0.001)
        waiting = pool.submit(abs, -1)
        assert waiting.cancel()
        gate.set()
        with pytest.raises(CancelledError):
            waiting.result()


def test_runs_go_on_while_workers_are_busy() -> None:
    gate = threading.Event()
    with Pool(2) as pool:
        blocker = pool.submit(gate.wait, 300)
        while not blocker.running():
            time.sleep(0.001)
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
        gate.set()


def test_teams_run_at_once() -> None:
    meeting = threading.Barrier(2, timeout=300)
    with Pool(2, teams=2) as pool:

        def meet(team: int) -> None:
            for _ in range(10):
                pool.handle.team(team).parallel_for(0, 1, 1, lambda first, last: meeting.wait())

        callers = [threading.Thread(target=meet, args=(team,)) for team in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert meeting.broken is False


def test_many_callers() -> None:
    start = threading.Barrier(6)
    failures: list[object] = []
    with Pool(3) as pool, Pool(2) as second:

        def use(number: int) -> None:
            start.wait()
            own = pool if number % 2 else second
            for turn in range(40):
                if own.map(lambda x: x + turn, range(9)) != [x + turn for x in range(9)]:  # noqa: B023
                    failures.append((number, turn))

        callers = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert not failures


def test_close_is_final_and_waits() -> None:
    done: list[int] = []
    pool = Pool(2)
    for x in range(50):
        pool.submit(lambda x=x: (time.sleep(0.0005), done.append(x)))
    pool.close()
    assert len(done) == 50
    pool.close()
    assert pool.is_closed
    for use in (
        lambda: pool.map(abs, [1]),
        lambda: pool.parallel_for(0, 1, 1, print),
        lambda: pool.submit(abs, 1),
        lambda: pool.resize(2),
    ):
        with pytest.raises(ThreadError, match="closed"):
            use()


def test_close_while_running() -> None:
    for _ in range(10):
        pool = Pool(3)
        begun = threading.Barrier(4)
        outcomes: list[str] = []

        def use() -> None:
            begun.wait()  # noqa: B023
            try:
                while True:
                    pool.map(abs, range(20))  # noqa: B023
            except ThreadError:
                outcomes.append("refused")  # noqa: B023

        callers = [threading.Thread(target=use) for _ in range(3)]
        for caller in callers:
            caller.start()
        begun.wait()
        time.sleep(0.002)
        pool.close()
        for caller in callers:
            caller.join(30)
        assert outcomes == ["refused"] * 3


def test_dropped_pool_ends_its_tasks() -> None:
    done: list[int] = []
    pool = Pool(2)
    futures = [pool.submit(lambda: (time.sleep(0.01), done.append(1))) for _ in range(5)]
    del pool
    wait(futures, timeout=300)
    assert len(done) == 5


def test_team_keeps_its_pool() -> None:
    team = native().Pool(2).team(0)
    assert team.map(abs, [-1, -2, -3]) == [1, 2, 3]
    assert team.num_threads == 2


def test_resize() -> None:
    with Pool(2) as pool:
        for threads in (5, 1, 3):
            pool.resize(threads)
            assert pool.num_threads == threads
            assert len(pool.statistics()) == threads
            assert all(row["busy_ns"] == row["num_tiles"] == 0 for row in pool.statistics())
            assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
        with pytest.raises(ConfigError):
            pool.resize(0)


def test_statistics() -> None:
    with Pool(4, teams=2) as pool:
        before = pool.statistics()
        assert [(row["team"], row["thread"]) for row in before] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        pool.map(lambda _: time.sleep(0.001), range(40))
        after = pool.statistics()
        assert sum(row["num_tiles"] for row in after) == 40
        assert sum(row["busy_ns"] for row in after) > 15e6
        assert set(after[0]) == {
            "team", "thread", "busy_ns", "wait_ns", "num_tiles", "num_steals", "num_parks", "num_tasks"
        }  # fmt: skip


def test_idle_pool_uses_no_cpu() -> None:
    with Pool(8, teams=2) as pool:
        pool.map(abs, range(100))
        assert becomes_idle()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_fork_is_refused_in_the_child() -> None:
    result = run_python(
        """
        import os, weft
        from weft.errors import ThreadError
        pool = weft.Pool(threads=3)
        pool.map(abs, range(9))
        child = os.fork()
        if child == 0:
            try:
                pool.map(abs, [1])
            except ThreadError as error:
                assert "fork" in str(error)
            else:
                os._exit(3)
            pool.close()
            with weft.Pool(threads=2) as fresh:
                assert fresh.map(abs, [-1]) == [1]
            raise SystemExit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.map(abs, [-2]) == [2]
        """
    )
    assert result.returncode == 0, result.stderr
    assert "leak" not in result.stderr


def test_open_pool_does_not_hold_up_the_end() -> None:
    result = run_python(
        """
        import time, weft
        pool = weft.Pool(threads=3, teams=2)
        done = []
        for x in range(20):
            pool.submit(lambda: (time.sleep(0.01), done.append(1)))
        import atexit
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_control_c_ends_a_loop() -> None:
    result = run_python(
        """
        import os, signal, threading, time, weft
        pool = weft.Pool(threads=2)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            pool.parallel_for(0, 100000, 1, lambda first, last: time.sleep(0.001))
        except KeyboardInterrupt:
            assert time.monotonic() - started < 50  # the whole loop sleeps for 50 on two threads, at least
            assert pool.map(abs, [-1]) == [1]
            print("interrupted")
        """
    )
    assert result.stdout == "interrupted\n", result.stderr


@pytest.mark.parametrize("value", ["abc", "-3", "1e3", "99999999"])
def test_bad_spin_setting(value: str) -> None:
    result = run_python("import weft; weft.Pool(threads=2)", WEFT_SPIN_US=value)
    assert "ConfigError" in result.stderr and "WEFT_SPIN_US" in result.stderr


def test_spin_setting() -> None:
    result = run_python("import weft; print(weft.Pool(threads=2).map(abs, [-1]))", WEFT_SPIN_US="0")
    assert result.stdout == "[1]\n", result.stderr
