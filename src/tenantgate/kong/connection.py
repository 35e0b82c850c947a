"""One stream to Kong: whole messages in, whole messages out, never blocking."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tenantgate.kong import nonblocking as at_once
from tenantgate.kong.wire import Call, Decoder, MalformedError, Reply
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.kong.ledger import Ledger, Note

__all__ = ["ClosedError", "Connection", "abandoned"]

abandoned: Final = metrics.counter(
    "tenantgate_abandoned_calls_total", "Calls that Kong gave up before they were answered."
)

_CHUNK: Final = 256 * 1024


class ClosedError(Exception):
    """The other side is gone."""


class Connection:
    """A connection, owned by one thread at a time (see `poller`).

    Attributes:
        fd: its descriptor.
        stalled_since: when output began to wait for room (`time.monotonic`), or None.
    """

    __slots__ = ("_buffer", "_decoder", "_note", "_out", "_sock", "closed", "fd", "stalled_since")

    def __init__(self, sock: socket.socket, limit: int, note: Note | None = None) -> None:
        """`note` is where the watchdog reads which call is in progress."""
        sock.setblocking(False)
        self._note = note
        self._sock = sock
        self._decoder = Decoder(limit)
        self._buffer = at_once.buffer()
        self._out = memoryview(b"")
        self.fd = sock.fileno()
        self.closed = False
        self.stalled_since: float | None = None

    def receive(self) -> Call | None:
        """The latest call, or None until more arrives.

        Raises:
            ClosedError: the other side is gone.
            MalformedError: it sent something else.
        """
        found = self._decoder.next() if self._decoder.pending else None
        if found is None:
            try:
                data = at_once.receive(self._sock, self._buffer)
                if len(data) == len(self._buffer):
                    with contextlib.suppress(BlockingIOError):
                        data += self._sock.recv(_CHUNK)
            except BlockingIOError:
                return None
            except OSError:
                raise ClosedError from None
            if not data:
                raise ClosedError
            self._decoder.feed(data)
            found = self._decoder.next()
        while found is not None and self._decoder.pending:
            # Kong has one call in flight for each connection: it gave this one up before it was read, and its
            # answer would be taken for the answer to what follows.
            abandoned.inc()
            found = self._decoder.next()
        if isinstance(found, Reply):
            raise MalformedError("a response where a request is due")
        return found

    @property
    def buffered(self) -> bool:
        """Whether bytes were read that belong to a later message."""
        return self._decoder.pending

    def has_unread(self) -> bool:
        """Whether the other side sent something, or closed, since the last `receive`."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def owes(self, msgid: int, *, reject: bool) -> None:
        """Note that Kong waits for the answer to this call, and which one it gets if this process ends."""
        if self._note is not None:
            self._note.busy(msgid, reject=reject)

    def owes_nothing(self) -> None:
        """Note that Kong waits for no answer."""
        if self._note is not None:
            self._note.idle()

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Send all of `data`: now what fits, the rest by `flush`. After the `last` the other side finds it closed.

        Raises:
            ClosedError: the other side is gone.
        """
        self.owes_nothing()
        try:
            sent = at_once.send(self._sock, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise ClosedError from None
        if last and sent == len(data):
            at_once.shut(self._sock)
        if sent < len(data):
            self._out = memoryview(bytes(self._out) + data[sent:])
            self.stalled_since = time.monotonic()

    @property
    def writing(self) -> bool:
        """Whether output waits for room."""
        return len(self._out) > 0

    def flush(self) -> None:
        """Send what waits, as far as there is room.

        Raises:
            ClosedError: the other side is gone.
        """
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
                self.stalled_since = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            raise ClosedError from None
        self._out = memoryview(b"")
        self.stalled_since = None

    def pass_on(self, give: Callable[[socket.socket], bool], ledger: Ledger | None) -> bool:
        """Give the connection to another process, by `give`; whether that worked. Only between two messages.

        Then it must be forgotten here. Else it is as before, with a new record in `ledger`.
        """
        if self._note is not None:
            self._note.close()  # before: who reads the connection next must be the only one
            self._note = None
        if not give(self._sock):
            self._note = None if ledger is None else ledger.note(self._sock)
            return False
        self.closed = True
        self._sock.close()
        return True

    def hang_up(self) -> None:
        """Let its owner, whoever that is, find it closed."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def end_if_silent(self) -> bool:
        """Let the other side find it closed, unless it has sent something; whether that was done."""
        return not self.writing and at_once.shut_if_silent(self._sock)

    def close(self) -> None:
        """Close it; a second time does nothing."""
        self.closed = True
        if self._note is not None:
            self.hang_up()  # the watchdog has it, too
            self._note.close()
            self._note = None
        self._sock.close()
