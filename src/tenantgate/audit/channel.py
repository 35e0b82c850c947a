"""The audit worker's ends of the connections from plugin servers."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from tenantgate.audit.meeting import peer
from tenantgate.audit.messages import Message, Pipeline, decode, pack, unpacker
from tenantgate.telemetry import logs, metrics

__all__ = ["Channel", "read_configuration"]

_log: Final = logging.getLogger("tenantgate.audit")
_READ: Final = 1 << 18  # bytes in one go

_dropped: Final = metrics.counter(
    "tenantgate_audit_content_dropped_total",
    "Content that was given up in the worker, by reason.",
    ("reason",),
)


@dataclass(eq=False)
class _Connection:
    """One plugin server's connection."""

    line: socket.socket
    unpacker: Any = field(default_factory=unpacker)
    outgoing: bytes = b""

    def send(self) -> None:
        """Send what waits, as far as there is room."""
        with contextlib.suppress(OSError):
            self.outgoing = self.outgoing[self.line.send(self.outgoing, socket.MSG_DONTWAIT) :]


class Channel:
    """Messages from the node's plugin servers, and this process' metrics for one of them. For one thread.

    Attributes:
        more: whether the last `receive` has left something behind.
        changed_at: Unix time of the last end of a connection, at first of the channel's beginning. What requests left
            with a server that ended then won't come.
    """

    def __init__(
        self, connection: socket.socket | None = None, *, listener: socket.socket | None = None
    ) -> None:
        """`connection`: one that is there already. `listener`: where others connect; it must not block."""
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._connections: dict[socket.socket, _Connection] = {}
        self._last: socket.socket | None = None
        self._shown = ""  # metrics that a server counts among its own
        self._shown_by: _Connection | None = None
        self.more = False
        self.changed_at = time.time()
        if listener is not None:
            self._selector.register(listener, selectors.EVENT_READ)
        if connection is not None:
            self._add(connection)

    @property
    def closed(self) -> bool:
        """Whether no plugin server is connected."""
        return not self._connections

    @property
    def abandoned(self) -> bool:
        """Whether the last plugin server is dead: one that only ends waits for our end of the line."""
        if self._connections or self._last is None:
            return False
        poller = select.poll()
        poller.register(self._last, 0)  # which leaves POLLHUP: both directions are closed (poll(2))
        return bool(poller.poll(0))

    def refuse(self) -> None:
        """Take no further connection: who comes now meets the next worker."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def receive(self, timeout_s: float) -> Iterator[Message]:
        """The messages that are there, or come within `timeout_s`; a bounded number of them.

        What is no message is counted; what can't even be unpacked ends its connection.
        """
        if self.closed and self._listener is None:
            if timeout_s:
                time.sleep(timeout_s)
            return
        taken = 0
        while taken < _READ:  # then the journal's turn: content whose line is there needs no room
            ready = self._selector.select(timeout_s)
            timeout_s = 0.0
            self.more = bool(ready)
            if not ready:
                return
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                connection = self._connections[key.fileobj]  # type: ignore[index]
                data = self._read(connection)
                taken += len(data)
                yield from self._messages(connection, data)

    def show(self, exposition: str) -> None:
        """Send metrics to the server that came first, and to the others that this process lives.

        A server that takes the place of one that is gone learns first what that one has counted.
        """
        for connection in self._connections.values():
            if connection.outgoing:  # the rest goes before anything newer
                pass
            elif connection is next(iter(self._connections.values())):
                if self._shown_by is not connection and self._shown:
                    connection.outgoing = pack({"counted": self._shown})
                connection.outgoing += pack(exposition)
                self._shown, self._shown_by = exposition, connection
            else:
                connection.outgoing = pack("")
            connection.send()

    def _add(self, line: socket.socket) -> None:
        if self._last is not None:
            self._last.close()
            self._last = None
        self._connections[line] = _Connection(line)
        self._selector.register(line, selectors.EVENT_READ)

    def _accept(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(OSError):  # it left again
            line, _ = self._listener.accept()
            if peer(line)[1] == os.geteuid():
                self._add(line)
            else:
                line.close()

    def _read(self, connection: _Connection) -> bytes:
        try:
            data = connection.line.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._end(connection)
        return data

    def _messages(self, connection: _Connection, data: bytes) -> Iterator[Message]:
        try:
            connection.unpacker.feed(data)
            for received in connection.unpacker:
                if (message := _decoded(received)) is not None:
                    yield message
        except (ValueError, msgpack.UnpackException) as error:
            _failed(error)
            self._end(connection)

    def _end(self, connection: _Connection) -> None:
        """Forget a connection; the last one stays open, unless another one comes."""
        if self._connections.pop(connection.line, None) is None:
            return
        self._selector.unregister(connection.line)
        self.changed_at = time.time()
        if self._connections:
            connection.line.close()
        else:
            self._last = connection.line  # its server sees by its end that all is in the spool


def read_configuration(connection: socket.socket) -> Pipeline | None:
    """The configuration as a plugin server of the release before sends it first: four bytes of length, and a map.

    None if the other end is gone.
    """
    head = _exactly(connection, 4)
    body = _exactly(connection, int.from_bytes(head, "big")) if head else None
    return None if body is None else Pipeline(msgpack.unpackb(body, unicode_errors="surrogateescape"), 0.0)


def _decoded(received: Any) -> Message | None:
    try:
        return decode(received)
    except Exception as error:  # noqa: BLE001 - one content less must not stop the records
        _failed(error)
        return None


def _failed(error: Exception) -> None:
    _dropped.inc(reason="error")
    logs.event(_log, logging.ERROR, "a content could not be taken", **logs.describe(error))


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return None
        data += more
    return data
