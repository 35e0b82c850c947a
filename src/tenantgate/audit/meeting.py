"""Where the plugin servers of a node meet the one audit worker of a state folder: a lock file and a unix socket.

The worker holds the lock, inherited from the process that started it, from its first moment to its last; whoever gets
the lock may start the next one. It listens on the socket, which only its own user may connect to (unix(7)).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tenantgate.audit.journal_files import private

__all__ = ["SOCKET", "connect", "listen", "lock", "peer"]

SOCKET: Final = "worker.sock"
_LOCK: Final = "lock"
_PATH_MAX: Final = 107  # sockaddr_un.sun_path less its final zero byte
_MODE: Final = 0o600
_BACKLOG: Final = 128


def lock(folder: Path) -> int | None:
    """The descriptor of the folder's lock; None while another process has it. Held until all copies are closed.

    Raises:
        OSError: the file can't be opened or locked.
    """
    fd = private(folder / _LOCK, append=True)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def listen(folder: Path) -> socket.socket:
    """The worker's listening socket, for who holds the lock.

    Raises:
        OSError: the socket can't be made there.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        (folder / SOCKET).unlink(missing_ok=True)  # of one that was killed
        with _address(folder) as address:
            listener.bind(address)
        (folder / SOCKET).chmod(_MODE)  # before it listens: nobody can connect until then
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def connect(folder: Path) -> socket.socket | None:
    """A connection to the folder's worker; None where none listens, or where another user does."""
    line = socket.socket(socket.AF_UNIX)
    try:
        with _address(folder) as address:
            line.connect(address)
        if peer(line)[1] == os.geteuid():
            return line
    except OSError:
        pass
    line.close()
    return None


def peer(line: socket.socket) -> tuple[int, int]:
    """Process id, 0 where it isn't in this namespace, and user id of a connection's other end."""
    pid, uid, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's path, also where it is longer than a socket's address may be."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= _PATH_MAX:
        yield path
        return
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)
