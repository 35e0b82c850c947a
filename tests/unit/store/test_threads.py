"""Threads of the process: one for a purpose, alive as long as it is needed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import pytest

from tenantgate.store.threads import BackgroundBuilds, BackgroundThread
from tenantgate.telemetry import logs

PATIENCE_S = 20.0
LOG = logging.getLogger("tenantgate.tests")


def thread(step: Callable[[], float | None], again_s: float = 0.0) -> BackgroundThread:
    return BackgroundThread("a-thread", step, log=LOG, failed="it failed", again_s=again_s)


class Steps:
    """A step that notes its thread and does what it is told next: waits so long, or raises."""

    def __init__(self, *results: float | BaseException | None) -> None:
        self.results, self.by = list(results), Queue[threading.Thread]()

    def __call__(self) -> float | None:
        result = self.results.pop(0) if self.results else None
        self.by.put(threading.current_thread())
        if isinstance(result, BaseException):
            raise result
        return result

    def next(self) -> threading.Thread:
        return self.by.get(timeout=PATIENCE_S)


def test_nothing_runs_before_the_first_use() -> None:
    made = thread(Steps())
    assert not made.alive
    made.stop()
    made.wake()
    assert not made.alive, "stopped is stopped"


@pytest.mark.parametrize("results", [(0.0, 0.0), (0.001, 0.001), (ValueError(), ValueError())])
def test_one_thread_makes_all_steps(results: tuple[float | Exception, ...]) -> None:
    steps = Steps(*results)
    made = thread(steps)
    made.start()
    first, *more = [steps.next() for _ in range(3)]
    assert (first.name, first.daemon) == ("a-thread", True)
    assert more == [first, first]
    made.wake()
    assert steps.next() is first
    made.stop(PATIENCE_S)
    assert not made.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_replaced() -> None:
    steps = Steps(SystemExit())
    made = thread(steps)
    made.wake()
    dead = steps.next()
    dead.join(PATIENCE_S)
    made.wake()
    assert steps.next() is not dead
    made.stop(PATIENCE_S)


def test_the_first_failure_in_a_row_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    secret = ValueError("a secret")
    steps = Steps(secret, secret, 0.0, secret)
    made = thread(steps)
    with caplog.at_level(logging.WARNING, LOG.name):
        made.start()
        for _ in range(5):
            steps.next()
        made.stop(PATIENCE_S)
    assert [record.message for record in caplog.records] == ["it failed", "it failed"]
    shown = str([record.__dict__[logs._FIELDS] for record in caplog.records])
    assert "ValueError" in shown
    assert "secret" not in shown.replace("test_threads", "")


def test_users_that_start_at_once_start_one_thread() -> None:
    at_once = threading.Barrier(8)
    for _ in range(50):
        steps, runs = Steps(), set()
        made = thread(steps)

        def use(made: BackgroundThread = made) -> None:
            at_once.wait()
            made.wake()

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(use) for _ in range(8)]:
                done.result()
        runs.add(steps.next())
        made.stop(PATIENCE_S)
        while not steps.by.empty():
            runs.add(steps.by.get())
        assert len(runs) == 1


def test_a_stop_ends_a_pause() -> None:
    paused = threading.Event()

    def step() -> float | None:
        paused.set()
        made.pause(PATIENCE_S * 10)
        return None

    made = thread(step)
    made.start()
    assert paused.wait(PATIENCE_S)
    made.stop(PATIENCE_S)
    assert not made.alive
    assert made.stopping


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork_the_child_has_a_thread_of_its_own_and_all_end_with_their_process() -> None:
    program = """
import logging, os, threading
from tenantgate.store.threads import BackgroundThread
ran = threading.Semaphore(0)
made = BackgroundThread("t", ran.release, log=logging.getLogger(), failed="")
made.wake()
assert ran.acquire(timeout=20)
child = os.fork()
assert made.alive is bool(child)
made.wake()
assert ran.acquire(timeout=20) and made.alive
assert not child or os.waitpid(child, 0)[1] == 0
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# -- builds ----------------------------------------------------------------------------------------------


def test_a_build_is_begun_and_later_there() -> None:
    may_end = threading.Event()
    builds = BackgroundBuilds[str, str](
        "b", lambda key: str(may_end.wait(PATIENCE_S)) + key, failed=lambda *_: "", most=2
    )
    assert (builds.get("a"), builds.get("a")) == (None, None)
    assert len(builds.building) == 1
    may_end.set()
    assert (builds.wait("a"), builds.get("a"), builds.building) == ("Truea", "Truea", {})


def test_what_fails_is_not_built_again() -> None:
    errors: list[Exception] = []

    def failed(key: str, error: Exception) -> str | None:
        errors.append(error)
        return None

    builds = BackgroundBuilds[str, str | None]("b", lambda _: str(1 / 0), failed=failed, most=2)
    assert [builds.wait("a"), builds.get("a"), builds.wait("a")] == [None] * 3
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_threads_that_wait_at_once_get_one_object_of_each_key() -> None:
    built: list[int] = []

    def build(key: int) -> object:
        built.append(key)
        return object()

    builds = BackgroundBuilds[int, object]("b", build, failed=lambda *_: None, most=8)
    at_once = threading.Barrier(8)

    def ask(number: int) -> list[object]:
        at_once.wait()
        return [builds.wait((n + number) % 8) for n in range(50)]

    with ThreadPoolExecutor(8) as pool:
        found = {each for some in pool.map(ask, range(8)) for each in some}
    assert sorted(built) == list(range(8))
    assert len(found) == 8
