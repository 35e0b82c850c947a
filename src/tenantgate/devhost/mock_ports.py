"""The ports on which mock providers listen: opened, refused and opened again while the process runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tenantgate.devhost.mock_tls import Authority

__all__ = ["Ports"]


@dataclass(slots=True)
class _Port:
    socket: socket.socket
    context: ssl.SSLContext | None
    runner: web.AppRunner | None = None


class Ports:
    """All ports of one process.

    Args:
        make: gives an application for one more port.
        host: the address.
        authority: certifies the names of ports with TLS.
    """

    def __init__(self, make: Callable[[], web.Application], host: str, authority: Authority) -> None:
        self._make = make
        self._host = host
        self._authority = authority
        self._ports: dict[int, _Port] = {}

    async def open(self, port: int = 0, *, tls: str = "") -> int:
        """Listen on a port, any with 0; with TLS under this name where one is given. The port.

        Raises:
            OSError: it is taken.
        """
        bound = self._bound(port)
        number = int(bound.getsockname()[1])
        self._ports[number] = _Port(bound, self._authority.context(tls) if tls else None)
        await self.accept(number)
        return number

    async def accept(self, port: int) -> None:
        """Listen again."""
        at = self._ports[port]
        if at.runner is not None:
            return
        # Cancelled, a handler ends when its client leaves.
        runner = web.AppRunner(
            self._make(),
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=75.0,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        await web.SockSite(runner, at.socket, ssl_context=at.context, backlog=1024).start()
        at.runner = runner

    async def refuse(self, port: int) -> None:
        """Close all connections to the port, and keep it so that nobody else listens there: connecting is refused."""
        at = self._ports[port]
        if at.runner is None:
            return
        runner, at.runner = at.runner, None
        await runner.cleanup()
        at.socket = self._bound(port)

    def _bound(self, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((self._host, port))
        except OSError:
            made.close()
            raise
        made.setblocking(False)
        return made

    async def close(self) -> None:
        """Close all."""
        runners = [at.runner for at in self._ports.values() if at.runner is not None]
        await asyncio.gather(*(runner.cleanup() for runner in runners))
        for at in self._ports.values():
            with contextlib.suppress(OSError):
                at.socket.close()
        self._ports.clear()
