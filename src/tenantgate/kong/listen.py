"""Listening sockets that a replacement can take over without a gap."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["UnixListener", "bind_tcp", "bind_unix"]

_BACKLOG: Final = 4096
_PATH_MAX: Final = 107  # sockaddr_un.sun_path less its final zero byte


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A socket on a path, and which file it is."""

    sock: socket.socket
    path: Path
    inode: int

    def unlink(self) -> None:
        """Remove the path, unless a newer server has taken it."""
        try:
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()
        except OSError:
            pass


def bind_unix(path: Path) -> UnixListener:
    """Listen at `path`, taking the place of whatever socket is there.

    The socket listens under another name first and is then renamed, so a client meets the old one or the
    new one, and never none.

    Raises:
        ConfigError: the path can't be used.
    """
    waiting = path.with_name(f".{path.name[:8]}{os.getpid()}")
    if max(len(os.fsencode(path)), len(os.fsencode(waiting))) > _PATH_MAX:
        raise ConfigError(f"socket {path}: the path is over {_PATH_MAX} bytes")
    sock = socket.socket(socket.AF_UNIX)
    try:
        waiting.unlink(missing_ok=True)
        sock.bind(str(waiting))
        sock.listen(_BACKLOG)
        inode = waiting.stat().st_ino
        waiting.rename(path)
    except OSError as error:
        sock.close()
        raise ConfigError(f"socket {path}: {error.strerror}") from None
    return UnixListener(sock, path, inode)


def bind_tcp(host: str, port: int) -> socket.socket:
    """Listen on a TCP port; 0 takes a free one.

    Raises:
        ConfigError: the address can't be used.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise ConfigError(f"{host}:{port}: {error.strerror}") from None
