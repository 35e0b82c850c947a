"""Threads of the process that work in the background, and objects that such a thread builds."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar
from weakref import WeakSet

from tenantgate.bounded import Bounded
from tenantgate.telemetry import logs

__all__ = ["BackgroundBuilds", "BackgroundThread"]

K = TypeVar("K")
V = TypeVar("V")

_AGAIN_S: Final = 1.0
_END_S: Final = 0.2  # for all threads together, when the process ends

_started: Final[WeakSet[BackgroundThread]] = WeakSet()


class BackgroundThread:
    """A thread that calls `step` time and again, as long as the process lives; thread-safe.

    `step` gives the seconds until its next call, None if it waits for `wake`. What it raises is logged as the event
    `failed` of `log`, by its type and place, once until a call succeeds again; `step` is called again after `again_s`
    seconds at most. Nothing runs before the first `wake` or `start`. After a fork, or if the thread is dead, the next
    of these starts another one.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float | None],
        *,
        log: logging.Logger,
        failed: str,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._again_s = again_s
        self.name, self._step, self._log, self._failed = name, step, log, failed
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def wake(self) -> None:
        """Have `step` called now."""
        self._awake.set()
        self.start()

    def start(self) -> None:
        """Start the thread unless it runs in this process. Takes less than a microsecond if it does."""
        if self.alive:
            return
        with self._lock:
            if not self.alive and not self._stopping.is_set():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
                _started.add(self)

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this process."""
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    @property
    def stopping(self) -> bool:
        """Whether the thread is to end."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """For `step`: wait so long, less if the thread is stopped."""
        self._stopping.wait(seconds)

    def stop(self, timeout_s: float = 0.0) -> None:
        """End the thread when the call of `step` returns, and wait for that up to `timeout_s` seconds."""
        self._stopping.set()
        self._awake.set()
        if self.alive and self._thread is not threading.current_thread() and self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failing = False
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                wait_s = self._step()
                failing = False
            except Exception as error:  # noqa: BLE001 - the thread must live as long as the process
                if not failing:
                    logs.event(self._log, logging.WARNING, self._failed, **logs.describe(error))
                failing, wait_s = True, self._again_s
            self._awake.wait(wait_s)


class BackgroundBuilds(Generic[K, V]):
    """Objects by key that are costly to build: a thread builds each once, and no caller waits; thread-safe.

    Args:
        name: of the threads.
        build: makes the object of a key.
        failed: gives what stands for the object of a key whose `build` raised, and logs the error.
        most: objects that are kept, the oldest dropped first.
    """

    def __init__(
        self, name: str, build: Callable[[K], V], *, failed: Callable[[K, Exception], V], most: int
    ) -> None:
        self._name, self._build, self._failed = name, build, failed
        self._lock = threading.Lock()
        self.built: Bounded[K, V] = Bounded(most)
        self.building: dict[K, threading.Thread] = {}

    def get(self, key: K) -> V | None:
        """The object if it is built; else None, and a thread begins to build it."""
        if key not in self.built:
            self._begin(key)
        return self.built.get(key)

    def wait(self, key: K) -> V | None:
        """The object, built now if it isn't."""
        if (thread := self._begin(key)) is not None:
            thread.join()
        return self.built.get(key)

    def _begin(self, key: K) -> threading.Thread | None:
        with self._lock:
            if key in self.built:
                return None
            thread = self.building.get(key)
            if thread is None:
                thread = threading.Thread(target=self._run, args=(key,), name=self._name, daemon=True)
                self.building[key] = thread
                thread.start()
            return thread

    def _run(self, key: K) -> None:
        try:
            self.built.put(key, self._made(key))
        finally:
            with self._lock:
                self.building.pop(key, None)

    def _made(self, key: K) -> V:
        try:
            return self._build(key)
        except Exception as error:  # noqa: BLE001 - what is broken must not take along what else the process does
            return self._failed(key, error)


def _stop_all() -> None:
    deadline = time.monotonic() + _END_S
    for thread in list(_started):
        thread.stop()
    for thread in list(_started):
        thread.stop(max(0.0, deadline - time.monotonic()))


atexit.register(_stop_all)
