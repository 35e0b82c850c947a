"""For benchmarks of a gateway that changes: clients in the background, and the moment from which something holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Clients", "holds"]


def holds(
    accept: Callable[[], bool], *, times: int = 5, within_s: float, pause_s: float = 0.01, what: str = "it"
) -> float:
    """The moment (monotonic) of the first of so many times in a row at which `accept` is true.

    One time alone says little: of several workers of a gateway one may know a change that others don't.

    Args:
        accept: asked again and again.
        times: in a row.
        within_s: seconds that it may take.
        pause_s: seconds after each time that it isn't true.
        what: for the message.

    Raises:
        SystemExit: it didn't hold in time.
    """
    start, row, first = time.monotonic(), 0, 0.0
    while row < times:
        if accept():
            first = first if row else time.monotonic()
            row += 1
        else:
            row = 0
            time.sleep(pause_s)
        if time.monotonic() - start > within_s:
            raise SystemExit(f"{what} didn't hold {times} times in a row within {within_s:.0f} s")
    return first


class Clients:
    """So many threads, each of which does `work` with its number and the event that ends it.

    Args:
        count: of the threads.
        work: returns soon after the event is set.
    """

    def __init__(self, count: int, work: Callable[[int, threading.Event], None]) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(number, self._stop), daemon=True) for number in range(count)
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let them work while the block runs, then wait for what is in progress."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
