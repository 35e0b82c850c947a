"""Readiness of sockets, one shot at a time.

A connection is reported once, to one thread, and then left alone until it is armed again. So exactly one
thread owns it at each moment, without a lock.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import Protocol

__all__ = ["Poller", "Waker", "new_poller"]


class Waker:
    """Wakes a thread that polls `fileno()`, from any thread."""

    def __init__(self) -> None:
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)

    def fileno(self) -> int:
        """What to poll for input."""
        return self._in.fileno()

    def write_fileno(self) -> int:
        """Where writing a byte wakes, for `signal.set_wakeup_fd`."""
        return self._out.fileno()

    def wake(self) -> None:
        """Make `fileno()` readable until `drain`."""
        with contextlib.suppress(OSError):  # full: it is readable anyway
            self._out.send(b"\0")

    def drain(self) -> None:
        """Forget the wakes so far."""
        with contextlib.suppress(OSError):
            while len(self._in.recv(4096)) == 4096:
                pass

    def close(self) -> None:
        """Give the descriptors back."""
        self._out.close()
        self._in.close()


class Poller(Protocol):
    """One-shot readiness. Any number of threads may wait, each thing is told to one of them."""

    def add(self, fd: int) -> None:
        """Know `fd`, armed for input."""

    def arm(self, fd: int, *, writing: bool = False) -> None:
        """Report `fd` once more (or at first), for input and, if `writing`, for room to write."""

    def remove(self, fd: int) -> None:
        """Forget `fd`; before it is closed."""

    def wait(self, timeout_s: float | None) -> tuple[int, bool, bool] | None:
        """One that is ready: descriptor, input or hang-up, room to write. None: nothing came in time."""


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def arm(self, fd: int, *, writing: bool = False) -> None:
        flags = select.EPOLLIN | select.EPOLLONESHOT
        if writing:
            flags |= select.EPOLLOUT
        try:
            self._epoll.modify(fd, flags)
        except FileNotFoundError:
            self._epoll.register(fd, flags)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def wait(self, timeout_s: float | None) -> tuple[int, bool, bool] | None:
        for fd, mask in self._epoll.poll(timeout_s, 1):
            return fd, bool(mask & ~select.EPOLLOUT), bool(mask & select.EPOLLOUT)
        return None


class _Poll:
    """The same with plain poll(2), for systems without epoll: one thread waits, the others for their turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._armed: dict[int, int] = {}
        self._waker = Waker()

    def add(self, fd: int) -> None:
        self.arm(fd)

    def arm(self, fd: int, *, writing: bool = False) -> None:
        with self._lock:
            self._armed[fd] = select.POLLIN | select.POLLOUT if writing else select.POLLIN
        self._waker.wake()

    def remove(self, fd: int) -> None:
        with self._lock:
            self._armed.pop(fd, None)
        self._waker.wake()

    def wait(self, timeout_s: float | None) -> tuple[int, bool, bool] | None:
        if not self._turn.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return None
        try:
            return self._wait(timeout_s)
        finally:
            self._turn.release()

    def _wait(self, timeout_s: float | None) -> tuple[int, bool, bool] | None:
        while True:
            poll = select.poll()
            poll.register(self._waker.fileno(), select.POLLIN)
            with self._lock:
                for fd, mask in self._armed.items():
                    poll.register(fd, mask)
            ready = poll.poll(None if timeout_s is None else timeout_s * 1000)
            for fd, mask in ready:
                if fd == self._waker.fileno():
                    self._waker.drain()
                    continue
                with self._lock:
                    if self._armed.pop(fd, None) is not None:
                        return fd, bool(mask & ~select.POLLOUT), bool(mask & select.POLLOUT)
            if not ready:
                return None


def new_poller() -> Poller:
    """The fastest one this system has (``TENANTGATE_POLLER=poll`` takes the portable one)."""
    if hasattr(select, "epoll") and os.environ.get("TENANTGATE_POLLER") != "poll":
        return _Epoll()
    return _Poll()
