"""Sending and receiving on a socket that doesn't block, without giving up Python's lock.

Python's own ``send`` and ``recv`` release the lock around the system call, for another thread to take, often on another
processor; who released it then waits to get it back. With several events in flight that costs more than the call itself
(``benchmarks/bench_pluginserver.py`` shows it).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Final

__all__ = ["Buffer", "buffer", "receive", "send", "shut", "shut_if_silent"]

Buffer = ctypes.Array[ctypes.c_char]

_SIZE: Final = 16 * 1024  # what is larger takes long enough for others to run meanwhile
_NOW: Final = socket.MSG_DONTWAIT
_QUIET: Final = _NOW | getattr(socket, "MSG_NOSIGNAL", 0)  # macOS lacks it; Python ignores the signal there

# PyDLL keeps the lock, unlike CDLL. Only ever called with the flag that forbids waiting.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
_send: Final = _libc.send
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = ctypes.c_ssize_t
_recv: Final = _libc.recv
_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_recv.restype = ctypes.c_ssize_t
_shutdown: Final = _libc.shutdown
_shutdown.argtypes = (ctypes.c_int, ctypes.c_int)
_shutdown.restype = ctypes.c_int


def buffer() -> Buffer:
    """For `receive`: one for each socket, since another thread may run before it is read."""
    return ctypes.create_string_buffer(_SIZE)


def send(sock: socket.socket, data: bytes) -> int:
    """As ``sock.send(data)``."""
    if len(data) > _SIZE:
        return sock.send(data)
    while (sent := _send(sock.fileno(), data, len(data), _QUIET)) < 0:
        _raise_unless_interrupted()
    return int(sent)


def receive(sock: socket.socket, into: Buffer) -> bytes:
    """As ``sock.recv(len(into))``."""
    while (got := _recv(sock.fileno(), into, len(into), _NOW)) < 0:
        _raise_unless_interrupted()
    return ctypes.string_at(into, got)


def shut(sock: socket.socket) -> None:
    """Let the other side find it closed: together with what was sent just before, since no thread runs in between."""
    _shutdown(sock.fileno(), socket.SHUT_RDWR)


def shut_if_silent(sock: socket.socket) -> bool:
    """As `shut`, unless there is something to read, the other side's end included; whether it was done."""
    into = ctypes.create_string_buffer(1)
    if _recv(sock.fileno(), into, 1, _NOW | socket.MSG_PEEK) >= 0 or ctypes.get_errno() != errno.EAGAIN:
        return False
    shut(sock)
    return True


def _raise_unless_interrupted() -> None:
    number = ctypes.get_errno()
    if number != errno.EINTR:
        raise OSError(number, os.strerror(number))
