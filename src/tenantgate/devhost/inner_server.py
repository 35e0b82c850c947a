"""A server of `nginx_include` on aiohttp."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_content import Content
from tenantgate.devhost.lua_state import LuaError, LuaState
from tenantgate.devhost.nginx_include import Server
from tenantgate.errors import ConfigError

__all__ = ["InnerServer"]

_MOST: Final = 1 << 26  # bytes of a header that are read at all, to refuse it
_TOO_LARGE: Final = 494  # nginx's own number


@dataclass(slots=True)
class _Reply:
    """The reply of one request, begun with its first piece."""

    request: web.Request
    response: web.StreamResponse | None = field(default=None)

    async def send(self, x: Exchange, chunk: bytes) -> None:
        if self.response is None:
            self.response = web.StreamResponse(status=x.status, headers=CIMultiDict(x.out))
            x.headers_sent = True
            await self.response.prepare(self.request)
        if chunk:
            await self.response.write(chunk)


class InnerServer:
    """One server.

    Args:
        server: as the file has it.
        state: where its Lua runs.
        log: for errors of that Lua.
        exchange: makes a request of the host's of one of aiohttp's.

    Raises:
        ConfigError: its Lua, or its file of certificates, can't be read.
    """

    def __init__(
        self, server: Server, state: LuaState, log: KongLog, exchange: Callable[[web.Request], Exchange]
    ) -> None:
        self._server = server
        self._state = state
        self._log = log
        self._exchange = exchange
        self._function = state.trusted(server.code, "content_by_lua")
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if server.trusted:
            if not Path(server.trusted).is_file():
                raise ConfigError(f"lua_ssl_trusted_certificate: {server.trusted}: no such file")
            self._trust.load_verify_locations(server.trusted)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the port is taken.
        """
        app = web.Application(client_max_size=1 << 40)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=75.0,
            auto_decompress=False,
            max_field_size=_MOST,
            max_line_size=_MOST,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._server.host, self._server.port, backlog=1024).start()
        except OSError as error:
            at = f"{self._server.host}:{self._server.port}"
            raise ConfigError(f"can't listen on {at}: {error.strerror}") from error

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if any(
            len(name) + len(value) + 4 > self._server.max_header for name, value in request.headers.items()
        ):
            return self._error(_TOO_LARGE)
        x = self._exchange(request)
        x.body, x.body_read = await request.read(), True
        reply = _Reply(request)
        try:
            await Content(self._state, self._trust, reply).run(x, self._function)
            if reply.response is None:
                return self._error(x.status)  # of ngx.exit
        except LuaError as error:
            self._failed(request, reply, str(error))
        except Exception as error:  # noqa: BLE001 - the host's own fault: told as one, without what it was about
            self._failed(request, reply, f"{type(error).__name__} in content_by_lua")
        return reply.response or self._error(500)

    def _error(self, status: int) -> web.Response:
        page = self._server.error_page
        if page is None or status not in page.codes:
            return web.Response(status=400 if status == _TOO_LARGE else status)
        return web.Response(status=page.status, body=page.body, content_type=page.content_type)

    def _failed(self, request: web.Request, reply: _Reply, why: str) -> None:
        self._log.write("err", f"[content] {why}")
        if reply.response is not None and request.transport is not None:
            request.transport.abort()
