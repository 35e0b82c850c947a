"""The audit worker's end of the socket pair that joins it to the plugin server."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import msgpack

from tenantgate.audit.config import PipelineConfig
from tenantgate.audit.messages import pack, unpacker
from tenantgate.fields import parse

__all__ = ["Channel", "read_configuration"]

_READ: Final = 1 << 18  # bytes in one go


class Channel:
    """Messages from the plugin server, and this process' metrics for it. For one thread."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self._unpacker = unpacker()
        self._outgoing = b""

    @property
    def closed(self) -> bool:
        """Whether the other end is gone, or there never was one."""
        return self._connection is None

    def receive(self, timeout_s: float) -> Iterator[Any]:
        """The unpacked messages that are there, or come within `timeout_s`; a bounded number of them."""
        if self._connection is None:
            if timeout_s:
                time.sleep(timeout_s)
            return
        ready, _, _ = select.select([self._connection], [], [], timeout_s)
        taken = 0
        while ready and taken < _READ:  # then the journal's turn: content whose line is there needs no room
            try:
                data = self._connection.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._connection = None
                return
            taken += len(data)
            self._unpacker.feed(data)
            yield from self._unpacker

    def show(self, exposition: str) -> None:
        """Send metrics, as far as there is room; the rest follows the next time, before newer ones."""
        if self._connection is not None:
            self._outgoing = self._outgoing or pack(exposition)
            with contextlib.suppress(OSError):
                self._outgoing = self._outgoing[self._connection.send(self._outgoing, socket.MSG_DONTWAIT) :]


def read_configuration(connection: socket.socket) -> PipelineConfig | None:
    """The configuration, which is sent first: four bytes of length, and a map. None if the other end is gone."""
    head = _exactly(connection, 4)
    body = _exactly(connection, int.from_bytes(head, "big")) if head else None
    if body is None:
        return None
    return parse(PipelineConfig, msgpack.unpackb(body, unicode_errors="surrogateescape"))


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return None
        data += more
    return data
