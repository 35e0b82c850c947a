"""A server that sends a byte now and then holds nobody, however its reply begins."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from tenantgate.http_limits import within

HEAD = b"HTTP/1.1 200 OK\r\n"
BEGINNINGS = {
    "nothing": b"",
    "status": b"HTTP/1.1 20",
    "headers": HEAD + b"X-A: ",
    "length": HEAD + b"Content-Length: 1000\r\n\r\n",
    "close": HEAD + b"Connection: close\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    "1.0": b"HTTP/1.0 200 OK\r\n\r\n",
}


@contextlib.contextmanager
def dripping(beginning: bytes, drop: bytes) -> Iterator[int]:
    """A server that begins a reply, and goes on by `drop` ever after."""
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(beginning)
            while not over.wait(0.01):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join(5)


def asked(connection: http.client.HTTPConnection, limit_s: float) -> bytes:
    with within(connection, limit_s):
        connection.request("GET", "/")
        return connection.getresponse().read(1 << 30)


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_limit_is_that_of_the_whole_exchange(kind: str) -> None:
    drop = b"1\r\na\r\n" if kind == "chunks" else b"\r\n" if kind == "nothing" else b"a"
    with dripping(BEGINNINGS[kind], drop) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), pytest.raises((TimeoutError, http.client.HTTPException)):
            asked(connection, 0.1)


def test_a_reply_in_time_is_read() -> None:
    with dripping(HEAD + b"Content-Length: 2\r\n\r\nok", b"") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            assert asked(connection, 5) == b"ok"
