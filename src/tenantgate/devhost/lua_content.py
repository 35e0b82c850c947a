"""Servers of nginx whose replies Lua makes (``content_by_lua``): its sockets, name resolution and output.

The Lua runs in the host's state, unchanged; what it waits for is done here, on asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from tenantgate.devhost import lua
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.lua_state import LuaError, LuaState

__all__ = ["Content", "Output"]

Values = tuple[Any, ...]
"""What a call of Lua's returns."""
_CLOSED: Final = (None, b"closed")
_TIMEOUT: Final = (None, b"timeout")


class Output(Protocol):
    """The way to the client."""

    async def send(self, x: Exchange, chunk: bytes) -> None:
        """Send the head of `x`, if that hasn't been, and a piece of the body.

        Raises:
            ConnectionError: the client has left.
        """


class _Ended(Exception):  # noqa: N818 - control flow, as ngx.exit ends the request
    """``ngx.exit``."""


class Content:
    """One request. Its connections end with it.

    Args:
        state: where the Lua is.
        trust: certificates that connections to upstreams go by; None: those of the system.
        output: takes the reply.
    """

    def __init__(self, state: LuaState, trust: ssl.SSLContext, output: Output) -> None:
        self._state = state
        self._trust = trust
        self._output = output
        self._connections: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._ids = itertools.count(1)
        self._operations: Mapping[str, Callable[..., Awaitable[Values]]] = {
            "close": self._close,
            "connect": self._connect,
            "exit": self._exit,
            "print": self._print,
            "receive": self._receive,
            "resolve": self._resolve,
            "send": self._send,
            "tls": self._tls,
        }

    async def run(self, x: Exchange, function: Any) -> None:
        """Run a Lua function to its end, and send what it gives out. An error of ``ngx.exit`` is left in `x.status`.

        Raises:
            LuaError: it raised an error.
        """
        x.phase, x.status = Phase.CONTENT, 200
        thread, values = self._state.thread(function), ()
        try:
            while (wanted := self._state.resume(x, "content", thread, *values)) is not None:
                name, *arguments = wanted
                values = await self._do(x, lua.from_bytes(name), arguments)
            await self._output.send(x, b"")
        except _Ended:
            if x.status < 400 or x.headers_sent:
                await self._output.send(x, b"")
        finally:
            for _, writer in self._connections.values():
                writer.transport.abort()

    async def _do(self, x: Exchange, name: str, arguments: list[Any]) -> Values:
        operation = self._operations[name]
        return await (operation(x, *arguments) if name in ("print", "exit") else operation(*arguments))

    # -- the reply

    async def _print(self, x: Exchange, chunk: bytes) -> Values:
        try:
            await self._output.send(x, chunk)
        except ConnectionError:
            return None, b"client aborted"
        return (1,)

    async def _exit(self, x: Exchange, status: int) -> Values:
        if status >= 200:
            x.status = status
        raise _Ended

    # -- sockets

    async def _resolve(self, name: bytes) -> Values:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(lua.from_bytes(name), None, type=socket.SOCK_STREAM)
        except OSError:
            return None, b"dns server error: 3 name error"
        addresses = dict.fromkeys(info[4][0] for info in found)
        return (self._state.values.to_lua([{"address": a} for a in addresses]),)

    async def _connect(self, address: bytes, port: int, timeout_ms: float) -> Values:
        host = lua.from_bytes(address).strip("[]")
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                made = await asyncio.open_connection(host, int(port))
        except TimeoutError:
            return _TIMEOUT
        except OSError:
            return None, b"connection refused"
        number = next(self._ids)
        self._connections[number] = made
        return (number,)

    async def _tls(self, number: int, name: bytes, verify: bool, timeout_ms: float) -> Values:
        if not verify:
            raise LuaError("the embedded host makes no TLS connection without a check of the certificate")
        if (found := self._connections.get(number)) is None:
            return _CLOSED
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await found[1].start_tls(self._trust, server_hostname=lua.from_bytes(name))
        except TimeoutError:
            return _TIMEOUT
        except ssl.SSLCertVerificationError:
            return None, b"certificate host mismatch"
        except (OSError, ValueError):
            return None, b"handshake failed"
        return (True,)

    async def _send(self, number: int, data: bytes, timeout_ms: float) -> Values:
        if (found := self._connections.get(number)) is None:
            return _CLOSED
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                found[1].write(data)
                await found[1].drain()
        except TimeoutError:
            return _TIMEOUT
        except OSError:
            return _CLOSED
        return (len(data),)

    async def _receive(self, number: int, most: int, timeout_ms: float) -> Values:
        if (found := self._connections.get(number)) is None:
            return _CLOSED
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                data = await found[0].read(int(most))
        except TimeoutError:
            return _TIMEOUT
        except OSError:
            return _CLOSED
        return (data,) if data else _CLOSED

    async def _close(self, number: int) -> Values:
        if found := self._connections.pop(int(number), None):
            with contextlib.suppress(OSError):
                found[1].close()
        return (1,)
