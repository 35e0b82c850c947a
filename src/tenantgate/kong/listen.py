"""Listening sockets that a replacement can take over without a gap."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["LINGER_S", "PRIVATE", "Succession", "UnixListener", "bind_tcp"]

LINGER_S: Final = 120.0
"""For how long a server that is told to end serves on while the next one isn't ready."""

PRIVATE: Final = 0o600
"""Mode of a socket that only its owner may connect to (unix(7), Pathname socket ownership and permissions).

Whoever connects can start an instance with a configuration of their own, and so make the server write where they want.
"""
_BACKLOG: Final = 4096
_COMES_S: Final = 10.0  # for a newer server to start and listen
_PATH_MAX: Final = 107  # sockaddr_un.sun_path less its final zero byte


class UnixListener:
    """A socket that listens, and the path at which clients find it once it is published.

    Until then it listens under another name, so that who is at the path can go on serving, and give it up to this one.
    """

    def __init__(self, path: Path, mode: int = PRIVATE) -> None:
        """Listen, for now under another name; `mode` says who may connect.

        Raises:
            ConfigError: the path can't be used.
        """
        self.path = path
        self._waiting = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}")
        if max(len(os.fsencode(path)), len(os.fsencode(self._waiting))) > _PATH_MAX:
            raise ConfigError(f"socket {path}: the path is over {_PATH_MAX} bytes")
        self.sock = socket.socket(socket.AF_UNIX)
        self.published = False
        try:
            self._waiting.unlink(missing_ok=True)
            self.sock.bind(str(self._waiting))
            self._waiting.chmod(mode)  # before it listens: nobody can connect until then
            self.sock.listen(_BACKLOG)
            self._inode = self._waiting.stat().st_ino
        except OSError as error:
            self.sock.close()
            raise ConfigError(f"socket {path}: {error.strerror}") from None

    def served(self) -> bool:
        """Whether somebody else listens at the path."""
        return _listens(self.path)

    def has_path(self) -> bool:
        """Whether clients at the path find this one."""
        return _inode(self.path) == self._inode

    def awaited(self) -> bool:
        """Whether this one has the path, and a newer server that isn't ready yet waits for it."""
        return (
            self.has_path() and _inode(self._waiting) not in (None, self._inode) and _listens(self._waiting)
        )

    def publish(self) -> None:
        """Take the path, in one step: a client meets the old socket or this one, and never none.

        Raises:
            ConfigError: it can't be taken.
        """
        try:
            if _inode(self._waiting) == self._inode:  # else it has got the path, or a newer one waits
                self._waiting.rename(self.path)
        except OSError as error:
            self.unlink()
            self.sock.close()
            raise ConfigError(f"socket {self.path}: {error.strerror}") from None
        self.published = True

    def unlink(self) -> None:
        """Give the path up: to a newer server that waits for it, or for good. One that was taken is left alone."""
        with contextlib.suppress(OSError):
            if _inode(self._waiting) == self._inode:
                self._waiting.unlink()
            if _inode(self.path) == self._inode:
                if self._waiting.exists():
                    self._waiting.rename(self.path)
                else:
                    self.path.unlink()


class Succession:
    """Whether a server that is told to end has to serve on, because the next one can't yet. Made when it starts."""

    def __init__(self, listeners: Sequence[UnixListener]) -> None:
        self._listeners = listeners
        self._master = _nginx_master()
        self._since: float | None = None

    @property
    def by_nginx(self) -> bool:
        """Whether a worker of nginx has started it."""
        return self._master is not None

    def needed(self) -> bool:
        """Asked from when it is told to end."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since >= LINGER_S:
            return False
        if any(one.awaited() for one in self._listeners):
            return True
        # At a reload the old worker may be gone before the server of the new one listens; at a stop nginx goes, too.
        comes = self._master is not None and now - self._since < _COMES_S and self._master.exists()
        return comes and any(one.has_path() for one in self._listeners)


def _nginx_master() -> Path | None:
    """The folder in /proc of the nginx whose worker has started this process; None where none has."""
    parent = Path(f"/proc/{os.getppid()}")
    try:
        if (parent / "comm").read_text().strip() != "nginx":
            return None
        return Path("/proc") / (parent / "stat").read_text().rpartition(")")[2].split()[1]
    except (OSError, IndexError):
        return None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(0.0)
        try:
            other.connect(str(path))
        except BlockingIOError:  # its backlog is full
            return True
        except OSError:
            return False
    return True


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def bind_tcp(host: str, port: int) -> socket.socket:
    """Listen on a TCP port; 0 takes a free one.

    The next server of the same user may listen beside this one: at a reload of Kong it starts while this one still
    serves, and one that found the port taken would end, and lose requests (socket(7), SO_REUSEPORT).

    Raises:
        ConfigError: the address can't be used.
    """
    try:
        return socket.create_server((host, port), reuse_port=True)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: {error.strerror}") from None
