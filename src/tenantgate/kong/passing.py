"""A server's part in passing calls on between the processes of one plugin (`peers`)."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tenantgate.kong import figures
from tenantgate.kong.peers import EventIds, Passed, Peer, rejects

if TYPE_CHECKING:
    from tenantgate.kong.connection import Connection
    from tenantgate.kong.event import Event
    from tenantgate.kong.ledger import Ledger
    from tenantgate.kong.poller import Poller
    from tenantgate.kong.wire import Call

__all__ = ["Passing"]

_NEWEST: Final = 1 / 16  # the part of the newest event in the mean


class Passing:
    """Gives calls to other processes with their connections, and takes theirs; without a `peer` it does nothing.

    Attributes:
        ids: the numbers of this process's events.
    """

    def __init__(
        self,
        peer: Peer | None,
        *,
        idle: Callable[[], int],
        conns: dict[int, Connection],
        poller: Poller,
        ledger: Ledger | None,
    ) -> None:
        """`idle` tells how many events only wait for Kong; `conns` are this process's connections by descriptor."""
        self._peer, self._idle, self._conns = peer, idle, conns
        self._poller, self._ledger = poller, ledger
        self.ids = EventIds(0 if peer is None else peer.index)
        self._lock = threading.Lock()
        self._mean_s: dict[str, float] = {}  # processor time of a phase, of late
        self._at_work: Counter[str] = Counter()

    @property
    def alone(self) -> bool:
        """Whether there are no other processes."""
        return self._peer is None

    def fileno(self) -> int:
        """What the poller tells then; -1 without a peer."""
        return -1 if self._peer is None else self._peer.fileno()

    def start(self) -> None:
        """From now on the poller tells when there is something to `take`."""
        if self._peer is not None:
            self._poller.add(self._peer.fileno())

    def takes_connections(self, warm: bool) -> bool:
        """Whether to accept: a process that loads its models yet leaves connections to those that don't."""
        return warm or self._peer is None or not self._peer.another_is_warm()

    def tick(self, now: float, *, warm: bool) -> None:
        """Say that this process lives, and whether it takes events."""
        if self._peer is not None:
            self._peer.tick(now, warm=warm)
            self._peer.set_load(self._load_s())

    def begins(self, event: Event) -> None:
        """This process runs it."""
        if self._peer is not None:
            with self._lock:
                self._at_work[event.phase] += 1
            self._peer.set_load(self._load_s())

    def ended(self, event: Event) -> None:
        """It runs it no more."""
        if self._peer is not None:
            with self._lock:
                self._at_work[event.phase] -= 1
                mean_s = self._mean_s.get(event.phase, 0.0)
                self._mean_s[event.phase] = mean_s + (event.turn.used_s - mean_s) * _NEWEST
            self._peer.set_load(self._load_s())

    def _load_s(self) -> float:
        """Processor time that the events in progress will take, as far as others tell."""
        count, total_s = 0, 0.0
        for phase, number in list(self._at_work.items()):
            count += number
            total_s += self._mean_s.get(phase, 0.0) * number
        return total_s * max(0, count - self._idle()) / count if count else 0.0

    def event(self, conn: Connection, call: Call) -> bool:
        """Give an event that has only come to a process with less to do, if there is one; whether that was done."""
        if self._peer is None:
            return False
        index = self._peer.idler(self._load_s())
        return index is not None and self._give(conn, call, index)

    def step(self, number: int, conn: Connection, call: Call) -> bool:
        """Give a step to the process that runs the event with this number; whether that was done."""
        owner = self.ids.owner(number)
        return self._peer is not None and self._peer.lives(owner) and self._give(conn, call, owner)

    def left_behind(self, number: int) -> bool | None:
        """Whether an event of a process that has ended is to be answered with 503; None: it is no such event."""
        if self._peer is None or not number:
            return None
        owner = self.ids.owner(number)
        ended = self.ids.before(number) or (self._peer.has(owner) and not self._peer.lives(owner))
        return rejects(number) if ended else None

    def take(self) -> Passed | None:
        """The next that another process passed to this one."""
        return None if self._peer is None else self._peer.take()

    def discard(self) -> None:
        """Close what other processes passed to this one: Kong has given it up."""
        while (passed := self.take()) is not None:
            passed[0].close()

    def _give(self, conn: Connection, call: Call, index: int) -> bool:
        peer = self._peer
        if peer is None or conn.buffered or conn.writing:
            return False
        self._conns.pop(conn.fd, None)
        with contextlib.suppress(OSError, ValueError):
            self._poller.remove(conn.fd)  # closing it doesn't, while the other has it
        if conn.pass_on(lambda sock: peer.give(index, sock, call), self._ledger):
            figures.passed.inc(call="event" if call.method == "plugin.HandleEvent" else "step")
            return True
        self._conns[conn.fd] = conn
        return False
