"""One limit of time for a whole exchange over HTTP.

A socket's own begins anew with each byte that comes, so a server that sends one now and then would hold a thread for
ever.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

__all__ = ["within"]


@contextlib.contextmanager
def within(connection: http.client.HTTPConnection, limit_s: float) -> Iterator[None]:
    """Connect, where that isn't done, and cut the connection off when `limit_s` seconds have passed.

    Raises:
        TimeoutError: they have, in place of what the cut connection raises.
    """
    # http.client forgets the socket of a reply that ends with the connection, and still reads from it.
    held: list[socket.socket] = []
    late = threading.Event()

    def cut() -> None:
        late.set()
        at = held[0] if held else connection.sock
        if at is not None:
            with contextlib.suppress(OSError):
                at.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, cut)
    timer.daemon = True
    timer.start()
    try:
        if connection.sock is None:
            connection.connect()
        held.append(connection.sock)
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError
