"""What a process holds for itself in Redis, and what it lets pass by it, in a file for whoever comes after it.

A killed process can't give its slices back, and without Redis nobody else knows what it spent of them. So each process
notes both in a file of its own, which outlives it; a lock on the file tells whether it lives. The machine's end takes
the notes along, and then slices are charged when they expire. No prompt, key or user's name is in them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tenantgate.limits.core.ledger import NotCountedError
from tenantgate.limits.core.rules import Window
from tenantgate.tenant import TenantId

__all__ = ["LeaseNotes", "Left", "NotedLease", "NotedSpend"]

_SUFFIX: Final = ".leases"
_MOST_BYTES: Final = 1 << 20
"""Beyond which a file is written anew."""
_READ_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class NotedLease:
    """A slice of a counter that a process holds.

    Attributes:
        id: of its reservation.
        held_ms: Redis' time of that, as far as is known.
    """

    tenant: TenantId
    id: str
    counter: str
    window: Window
    most: int
    held_ms: int


@dataclass(frozen=True, slots=True)
class NotedSpend:
    """A request that passed by slices.

    Attributes:
        id: the request's.
        amounts: counter, its window, what is held of it, and its limit.
        deadline_ms: Unix time until which its end may come.
    """

    tenant: TenantId
    id: str
    amounts: tuple[tuple[str, Window, int, int], ...]
    deadline_ms: int


@dataclass(slots=True)
class Left:
    """What a process has left behind, by id."""

    leases: dict[str, NotedLease] = field(default_factory=dict)
    spends: dict[tuple[TenantId, str], NotedSpend] = field(default_factory=dict)


class LeaseNotes:
    """The notes of one process in a folder; not thread-safe.

    Args:
        folder: of all processes that take over from one another, on this machine's disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        self._pid, self._fd = 0, -1
        self._torn = False  # a line may have been written in part: what follows it in the file says nothing
        self._now = Left()

    def lease(self, noted: NotedLease) -> None:
        """A slice is about to be held.

        Raises:
            NotCountedError: it can't be written down.
        """
        self._now.leases[noted.id] = noted
        try:
            self._write(_lease_line(noted))
        except NotCountedError:
            del self._now.leases[noted.id]
            raise

    def given_back(self, id_: str) -> None:
        """A slice is no longer held."""
        if self._now.leases.pop(id_, None) is not None:
            with contextlib.suppress(NotCountedError):  # to give it back twice does nothing
                self._write(["b", id_])

    def spend(self, noted: NotedSpend) -> None:
        """A request is about to pass.

        Raises:
            NotCountedError: it can't be written down.
        """
        self._now.spends[noted.tenant, noted.id] = noted
        try:
            self._write(_spend_line(noted))
        except NotCountedError:
            del self._now.spends[noted.tenant, noted.id]
            raise

    def told(self, tenant: TenantId, id_: str) -> None:
        """The ledger knows of a request's end."""
        if self._now.spends.pop((tenant, id_), None) is not None:
            with contextlib.suppress(NotCountedError):  # one that is settled is never held again
                self._write(["t", str(tenant), id_])

    def close(self) -> None:
        """Nothing is held any more: forget all, unless something is left for another process."""
        if self._fd >= 0 and self._pid == os.getpid():
            if not self._now.leases and not self._now.spends:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    @contextlib.contextmanager
    def left(self) -> Iterator[Left | None]:
        """What one dead process has left behind, until the end of the block for nobody else; None: there is none.

        Its file goes when the block ends without an exception.
        """
        for path in self._others():
            fd = _locked(path)
            if fd is None:
                continue
            try:
                yield _read(fd)
                path.unlink(missing_ok=True)
            finally:
                os.close(fd)
            return
        yield None

    def any_other(self) -> bool:
        """Whether another process has notes, dead or alive."""
        return bool(self._others())

    def _others(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.glob(f"*{_SUFFIX}") if path != self._path)
        except OSError:
            return []

    def _write(self, line: Sequence[Any]) -> None:
        try:
            if (
                self._fd < 0
                or self._torn
                or self._pid != os.getpid()
                or os.fstat(self._fd).st_size > _MOST_BYTES
            ):
                self._open()
            else:
                _put(self._fd, [line])
        except OSError:
            self._torn = True
            raise NotCountedError("lease: can't be noted") from None

    def _open(self) -> None:
        """Write what holds now into a new file, locked before anybody finds it."""
        if self._pid != os.getpid():
            if self._pid:  # the file is of the process that forked this one
                self._fd, self._path = -1, self._path.with_name(f"{secrets.token_hex(8)}{_SUFFIX}")
            self._pid = os.getpid()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            now = self._now
            _put(fd, [*map(_lease_line, now.leases.values()), *map(_spend_line, now.spends.values())])
            new.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        before, self._fd, self._torn = self._fd, fd, False
        if before >= 0:
            os.close(before)


def _locked(path: Path) -> int | None:
    """The file, locked, if its process is dead and nobody else takes over from it."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Else it was replaced by its process, or removed, between the two calls.
        if os.fstat(fd).st_ino == path.stat().st_ino:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _put(fd: int, lines: Sequence[Sequence[Any]]) -> None:
    data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    while data:
        data = data[os.write(fd, data) :]


def _lease_line(n: NotedLease) -> list[Any]:
    return ["l", str(n.tenant), n.id, n.counter, _plain(n.window), n.most, n.held_ms]


def _spend_line(n: NotedSpend) -> list[Any]:
    amounts = [[counter, _plain(window), *rest] for counter, window, *rest in n.amounts]
    return ["s", str(n.tenant), n.id, amounts, n.deadline_ms]


def _plain(window: Window) -> list[Any]:
    return [window.sliding_s, window.unit, window.timezone, window.anchor_day]


def _read(fd: int) -> Left:
    """What the lines say; one that was being written when the process died says nothing."""
    found = Left()
    with os.fdopen(os.dup(fd), "rb") as file:
        for line in file.read(_READ_BYTES).split(b"\n"):
            with contextlib.suppress(ValueError, TypeError, IndexError, AttributeError):
                _apply(found, json.loads(line))
    return found


def _apply(found: Left, line: list[Any]) -> None:
    match line:
        case ["l", tenant, id_, counter, window, most, held_ms]:
            found.leases[id_] = NotedLease(TenantId(tenant), id_, counter, _window(window), most, held_ms)
        case ["b", id_]:
            found.leases.pop(id_, None)
        case ["s", tenant, id_, amounts, deadline_ms]:
            parts = tuple((counter, _window(window), n, most) for counter, window, n, most in amounts)
            found.spends[TenantId(tenant), id_] = NotedSpend(TenantId(tenant), id_, parts, deadline_ms)
        case ["t", tenant, id_]:
            found.spends.pop((TenantId(tenant), id_), None)


def _window(values: list[Any]) -> Window:
    return Window(sliding_s=values[0], unit=values[1], timezone=values[2], anchor_day=values[3])
