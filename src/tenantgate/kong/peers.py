"""What the processes that serve one plugin know of one another, and how they pass calls on.

All accept on the same socket, and each connection is one process's at a time. Kong sends an event's calls over the
same connection as long as its own side doesn't wait in between, since its pool gives the connection that was used
last; a call of another process's event is rare, and goes to that process together with the connection it came on
(SCM_RIGHTS, unix(7)). In the same way a process that has work gives an event that has only come to one that has less.
So the connections end up with the processes that have time for them, and in the common case nothing is passed at all.

Each process writes its load into memory that all share, and reads its inbox, a socket. The watchdog makes both before
it forks, and takes what is in the inbox of a process that has ended.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import mmap
import os
import socket
import struct
import time
from typing import Final

from tenantgate.kong.instances import first_id
from tenantgate.kong.wire import Call, Decoder, MalformedError, pack

__all__ = ["MOST", "EventIds", "Passed", "Peer", "Peers", "rejects"]

MOST: Final = 8
"""Processes of one plugin: what three bits of an id hold."""

_INDEX_BITS: Final = 3
_LINE: Final = struct.Struct("<dd?7x")  # last tick (`time.monotonic`), load, whether it is warm
_LOAD: Final = struct.Struct("<d")
_LOAD_AT: Final = 8
_FRESH_S: Final = 0.3  # since its last tick: from then on a process may be stopped, or hang
_WORTH_S: Final = 0.001  # to give a connection away, and to take it, costs a fifth of it
_INLINE: Final = 32 * 1024  # a larger message goes into a file in memory: it must not fill the inbox

Passed = tuple[socket.socket, Call]
"""A connection, and the call that was read from it."""


class EventIds:
    """Numbers of events: they tell which process runs one, and what ends it if that process is gone."""

    def __init__(self, index: int = 0) -> None:
        self._index = index
        self._first = self._next = first_id()
        self._count = itertools.count(self._first)

    def new(self, *, reject: bool) -> int:
        """The next one; `reject` says what its last answer is if it fails."""
        self._next = next(self._count)
        return self._next << (_INDEX_BITS + 1) | self._index << 1 | reject

    def owner(self, number: int) -> int:
        """The index of the process that runs it."""
        return number >> 1 & (MOST - 1)

    def before(self, number: int) -> bool:
        """Whether it is of a process with this index that has ended."""
        return (
            self.owner(number) == self._index and not self._first <= number >> (_INDEX_BITS + 1) <= self._next
        )


def rejects(number: int) -> bool:
    """What `EventIds.new` was told."""
    return bool(number & 1)


class Peers:
    """Made by the watchdog, before it forks, for `count` processes.

    Raises:
        OSError: the system has no such sockets.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lines = mmap.mmap(-1, MOST * _LINE.size)
        self._inboxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        for end in itertools.chain.from_iterable(self._inboxes):
            end.setblocking(False)

    # -- the watchdog's side -----------------------------------------------------------------------------

    def ended(self, index: int) -> list[Passed]:
        """A process has ended: nobody passes it anything more. Gives what it had not taken yet."""
        self.tick(index, 0.0, warm=False)
        return list(iter(lambda: self.take(index), None))

    # -- a process's side --------------------------------------------------------------------------------

    def tick(self, index: int, now: float, *, warm: bool) -> None:
        """Say that a process lives."""
        load = self._line(index)[1]
        _LINE.pack_into(self._lines, index * _LINE.size, now, load, warm)

    def set_load(self, index: int, load_s: float) -> None:
        """Say how much processor time the events will take that a process works on."""
        _LOAD.pack_into(self._lines, index * _LINE.size + _LOAD_AT, load_s)

    def warm(self, index: int, now: float) -> float | None:
        """The load of a process, if it is warm and not known to have stopped."""
        ticked, load, warm = self._line(index)
        return load if warm and now - ticked < _FRESH_S else None

    def _line(self, index: int) -> tuple[float, float, bool]:
        found: tuple[float, float, bool] = _LINE.unpack_from(self._lines, index * _LINE.size)
        return found

    def inbox(self, index: int) -> int:
        """What a process polls: readable when there is something to `take`."""
        return self._inboxes[index][0].fileno()

    def give(self, index: int, sock: socket.socket, call: Call) -> bool:
        """Pass a connection on with the call that was read from it; whether that worked."""
        data = pack([0, call.msgid, call.method, [call.argument]])
        fds, large = [sock.fileno()], None
        try:
            if len(data) > _INLINE:
                large = os.memfd_create("call")
                fds.append(large)
                os.pwrite(large, data, 0)
                data = b"\0"
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
            self._inboxes[index][1].sendmsg([data], [rights])
        except OSError:  # it has not kept up
            return False
        finally:
            if large is not None:
                os.close(large)
        return True

    def take(self, index: int) -> Passed | None:
        """The next that somebody passed to a process."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._inboxes[index][0], _INLINE, 2)
            except OSError:
                return None
            if not fds:
                return None
            sock = socket.socket(fileno=fds[0])
            with contextlib.suppress(OSError, MalformedError):
                found = _decoded(data, fds[1:])
                if found is not None:
                    return sock, found
            sock.close()


def _decoded(data: bytes, large: list[int]) -> Call | None:
    if large:
        try:
            data = os.pread(large[0], os.fstat(large[0]).st_size, 0)
        finally:
            os.close(large[0])
    decoder = Decoder()
    decoder.feed(data)
    found = decoder.next()
    return found if isinstance(found, Call) else None


class Peer:
    """One process's place among `Peers`."""

    def __init__(self, peers: Peers, index: int) -> None:
        self.index = index
        self._peers = peers
        self._others = [i for i in range(peers.count) if i != index]

    def fileno(self) -> int:
        """See `Peers.inbox`."""
        return self._peers.inbox(self.index)

    def take(self) -> Passed | None:
        """See `Peers.take`."""
        return self._peers.take(self.index)

    def give(self, index: int, sock: socket.socket, call: Call) -> bool:
        """See `Peers.give`."""
        return self._peers.give(index, sock, call)

    def tick(self, now: float, *, warm: bool) -> None:
        """Say that this process lives, and whether it takes events."""
        self._peers.tick(self.index, now, warm=warm)

    def set_load(self, load_s: float) -> None:
        """See `Peers.set_load`."""
        self._peers.set_load(self.index, load_s)

    def another_is_warm(self) -> bool:
        """Whether somebody else takes events."""
        now = time.monotonic()
        return any(self._peers.warm(i, now) is not None for i in self._others)

    def idler(self, load_s: float) -> int | None:
        """The process with the least to do, where it is worth while to give it an event: with half of `load_s`."""
        if load_s < _WORTH_S:
            return None
        now = time.monotonic()
        loads = [(found, i) for i in self._others if (found := self._peers.warm(i, now)) is not None]
        least_s, index = min(loads, default=(load_s, -1))
        return index if load_s - least_s >= max(_WORTH_S, load_s / 2) else None

    def has(self, index: int) -> bool:
        """Whether there is another process with this index."""
        return index in self._others

    def lives(self, index: int) -> bool:
        """Whether another process has this index, and its events have not ended with it."""
        return index in self._others and self._peers.warm(index, 0.0) is not None
