"""What several test folders share."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Final, Self, TypeVar

from tenantgate.devhost.client import Reply

T = TypeVar("T")
ROOT: Final = Path(__file__).resolve().parents[1]
"""The checkout."""
PATIENCE_S = 60.0


def lazily(name: str) -> ModuleType:
    """A module that is loaded at its first use.

    All pytest processes collect all files: what one alone uses, and takes seconds to load, the others go without.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def until(get: Callable[[], T], accept: Callable[[T], bool], *, what: str) -> T:
    """The first accepted value; what another process does after its answer sends no event to wait for."""
    deadline = time.monotonic() + PATIENCE_S
    value = get()
    while not accept(value):
        assert time.monotonic() < deadline, f"{what}: last seen {value!r}"
        threading.Event().wait(0.05)
        value = get()
    return value


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that another process is writing: what has no end yet isn't one."""
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


class Load:
    """Requests from several threads, all the while a block runs; every reply is kept."""

    def __init__(self, send: Callable[[int], Reply], *, threads: int = 4) -> None:
        self._send = send
        self._stop = threading.Event()
        self._threads = threads
        self.replies: list[Reply] = []
        self.errors: list[BaseException] = []

    def _run(self, number: int) -> None:
        n = number
        while not self._stop.is_set():
            try:
                self.replies.append(self._send(n))
            except Exception as error:
                self.errors.append(error)
            n += self._threads
            self._stop.wait(
                0.01
            )  # what it waits for, such as a server that starts, needs the processors, too

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._threads)
        for number in range(self._threads):
            self._pool.submit(self._run, number)
        self.after(5)
        return self

    def after(self, replies: int) -> None:
        """Wait until as many more requests were answered."""
        goal = len(self.replies) + len(self.errors) + replies
        until(lambda: len(self.replies) + len(self.errors), lambda n: n >= goal, what="load")

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)
