"""A DNS server for tests: answers A queries from a table (RFC 1035, section 4)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Self

__all__ = ["DnsServer"]

_A, _NO_SUCH_NAME = 1, 3


class DnsServer:
    """Listens on a port of loopback until it is closed.

    Args:
        names: addresses by name; None: it never answers. Names that aren't there don't exist.
    """

    def __init__(self, names: Mapping[str, Sequence[str] | None]) -> None:
        self._names = names
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                query, sender = self._socket.recvfrom(4096)
                if (answer := self._answer(query)) is not None:
                    self._socket.sendto(answer, sender)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes | None:
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode().lower())
            at += length + 1
        question = query[12 : at + 5]
        addresses = self._names.get(".".join(labels), ())
        if addresses is None:
            return None
        found = addresses if struct.unpack(">H", query[at + 1 : at + 3]) == (_A,) else ()
        code = 0 if ".".join(labels) in self._names else _NO_SUCH_NAME
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(found), 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, _A, 1, 0, 4)
        return head + question + b"".join(record + socket.inet_aton(each) for each in found)
