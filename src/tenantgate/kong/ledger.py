"""Which of Kong's calls a server has not answered yet, known to the process that outlives it.

Kong goes on without a plugin whose connection closes (``handle_event``, kong/runloop/plugin_servers/rpc/mp_rpc.lua).
So the watchdog gets each of the server's connections, too (SCM_RIGHTS, unix(7)), and a note of the call in progress
lies in memory that both share. If the server ends, the watchdog answers those calls as `on_error` says, and those that
have come and weren't read.
"""

from __future__ import annotations

import array
import contextlib
import math
import mmap
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from tenantgate.kong.event import last_answer
from tenantgate.kong.peers import Passed
from tenantgate.kong.peers import rejects as event_rejects
from tenantgate.kong.wire import Call, Decoder, MalformedError, reply

__all__ = ["Ledger", "Note"]

_SLOTS: Final = 512  # connections; further ones close unanswered
_RECORD: Final = struct.Struct("<dIBxxx")  # since when (`time.monotonic`), number of the call, state
_CALL: Final = struct.Struct("<dI")  # the record's beginning, without the state
_MESSAGE: Final = struct.Struct("<I")  # a slot: with a connection, or without, when it is closed
_IDLE, _PASS, _REJECT = 0, 1, 2
_READ: Final = 1 << 18
_FRESH_S: Final = 1.9  # Kong gives a call up after 2 s as rendered, and uses its connection again


class Note:
    """One connection's record, for the server."""

    __slots__ = ("_ledger", "_slot")

    def __init__(self, ledger: Ledger, slot: int) -> None:
        self._ledger, self._slot = ledger, slot

    def busy(self, msgid: int, *, reject: bool) -> None:
        """Kong waits for the answer to this call."""
        self._ledger.write(self._slot, time.monotonic(), msgid, _REJECT if reject else _PASS)

    def idle(self) -> None:
        """It doesn't wait, or part of the answer is on its way. What it got last stays known, for the next Step."""
        self._ledger.write(self._slot, 0.0, 0, None)

    def close(self) -> None:
        """The connection is closed."""
        self._ledger.closed(self._slot)


class Ledger:
    """Made by the watchdog, before it forks; one server at a time uses it."""

    def __init__(self) -> None:
        self._records = mmap.mmap(-1, _SLOTS * _RECORD.size)
        self._ours, self._theirs = socket.socketpair()  # each message is read whole
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._free = deque(range(_SLOTS))
        self._fds: dict[int, int] = {}

    # -- the server's side -------------------------------------------------------------------------------

    def note(self, sock: socket.socket) -> Note | None:
        """A record for a new connection; None where there is no room."""
        try:
            slot = self._free.popleft()
        except IndexError:
            return None
        self.write(slot, 0.0, 0, _IDLE)
        fds = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))]
        try:
            self._theirs.sendmsg([_MESSAGE.pack(slot)], fds)
        except OSError:  # the watchdog has not kept up
            self._free.append(slot)
            return None
        return Note(self, slot)

    def write(self, slot: int, since: float, msgid: int, state: int | None) -> None:
        """Set a record; without a state that stays."""
        at = slot * _RECORD.size
        if state is None:
            _CALL.pack_into(self._records, at, since, msgid & 0xFFFFFFFF)
        else:
            _RECORD.pack_into(self._records, at, since, msgid & 0xFFFFFFFF, state)

    def closed(self, slot: int) -> None:
        """Forget a connection, which is closed, or another process's now."""
        self.write(slot, 0.0, 0, _IDLE)
        with contextlib.suppress(OSError):  # then the slot stays taken
            self._theirs.send(_MESSAGE.pack(slot))
            self._free.append(slot)

    def fileno(self) -> int:
        """What the watchdog polls: readable when there is something to `keep_up` with."""
        return self._ours.fileno()

    # -- the watchdog's side -----------------------------------------------------------------------------

    def keep_up(self) -> None:
        """Take what the server has told since the last time."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._ours, _MESSAGE.size, 1)
            except OSError:
                return
            if len(data) < _MESSAGE.size:
                return  # the other end is closed
            (slot,) = _MESSAGE.unpack(data)
            old = self._fds.pop(slot, None)
            if old is not None:
                os.close(old)
            if fds:
                self._fds[slot] = fds[0]

    def settle(
        self, rejects: Callable[[Any], bool], *, silent_s: float = 0.0, passed: Sequence[Passed] = ()
    ) -> int:
        """The server has ended: answer what it left, and close its connections. Gives how many it answered.

        Args:
            rejects: whether a HandleEvent with this argument that nobody read is answered with 503.
            silent_s: since when the server has read nothing.
            passed: what others passed to it, and it hadn't taken.
        """
        self.keep_up()
        answered = 0
        for sock, call in passed:
            with sock, contextlib.suppress(OSError):
                sock.setblocking(False)
                if silent_s < _FRESH_S:
                    data = reply(call.msgid, last_answer(0, reject=_rejects(call, rejects)))
                    answered += sock.send(data) == len(data)
        for slot, fd in self._fds.items():
            since, msgid, state = _RECORD.unpack_from(self._records, slot * _RECORD.size)
            with contextlib.closing(socket.socket(fileno=fd)) as sock, contextlib.suppress(OSError):
                reject, late_s = state == _REJECT, time.monotonic() - since if since else math.inf
                unread = _unread(sock)
                if unread is not None:  # then Kong has given the one before up
                    msgid, late_s = unread.msgid, silent_s
                    if unread.method == "plugin.HandleEvent":
                        reject = rejects(unread.argument)
                if late_s < _FRESH_S:
                    data = reply(msgid, last_answer(0, reject=reject))
                    answered += sock.send(data) == len(data)
        self._fds.clear()
        self._records[:] = bytes(len(self._records))
        return answered


def _rejects(call: Call, rejects: Callable[[Any], bool]) -> bool:
    if call.method == "plugin.HandleEvent":
        return rejects(call.argument)
    number = call.argument.get("EventId") if isinstance(call.argument, dict) else None
    return isinstance(number, int) and event_rejects(number)


def _unread(sock: socket.socket) -> Call | None:
    """The last call that came on a connection, if there is one that nobody read.

    Raises:
        OSError: the other side is gone, or what came is no call, or not all of one.
    """
    sock.setblocking(False)
    decoder, call = Decoder(), None
    while True:
        try:
            data = sock.recv(_READ)
        except BlockingIOError:
            break
        if not data:
            raise ConnectionResetError
        decoder.feed(data)
    try:
        while (found := decoder.next()) is not None:
            call = found
    except MalformedError:
        raise ConnectionResetError from None
    if decoder.pending or not (call is None or isinstance(call, Call)):
        raise ConnectionResetError
    return call
