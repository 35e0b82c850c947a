"""The embedded gateway as a process: ``python -m tenantgate.devhost.gateway --config kong.yml --conf kong.conf``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import http_writer, web
from multidict import CIMultiDict

from tenantgate.devhost import declarative, kong_conf, lua, lua_plugins, nginx_include, plugin_servers, vault
from tenantgate.devhost.admin import admin_app
from tenantgate.devhost.entities import GatewayConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.external import ExternalPlugin
from tenantgate.devhost.inner_server import InnerServer
from tenantgate.devhost.kong_conf import KongConf
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_plugins import LuaPlugin
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.pipeline import Pipeline
from tenantgate.devhost.plugin_servers import PluginInfo, Supervisor
from tenantgate.devhost.stock.access_control import Acl, CorrelationId, KeyAuth, RequestSizeLimiting
from tenantgate.devhost.stock.ai_proxy import AiProxy
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.devhost.stock.cors import Cors
from tenantgate.devhost.stock.file_log import FileLog
from tenantgate.devhost.stock.functions import Function
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.devhost.upstream import Client
from tenantgate.devhost.variables import SERVER
from tenantgate.errors import ConfigError, TenantgateError

__all__ = ["Gateway", "Loaded", "load", "main"]

_FUNCTIONS: Final = ("pre-function", "post-function")
_UNIQUE: Final = (
    "Authorization",
    "Content-Range",
    "Expect",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
)
"""Headers that nginx takes once (ngx_http_process_unique_header_line), those aside that aiohttp takes once, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that was checked as a whole."""

    conf: KongConf
    config: GatewayConfig
    plugins: tuple[PluginInfo, ...] = ()
    """Plugins in plugin servers."""
    lua_plugins: tuple[LuaPlugin, ...] = ()
    lua: LuaState | None = None
    """The state in which the Lua plugins live."""
    text: str = ""
    """The configuration as it was read."""
    schemas: Mapping[str, Any] = field(default_factory=dict)
    """By name the schemas of plugins that aren't stock."""
    environ: Mapping[str, str] | None = None
    servers: tuple[nginx_include.Server, ...] = ()
    """Servers of nginx's own file."""


def load(config: Path, conf: Path, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read both files and ask every plugin server for its plugin, as Kong does at start.

    Raises:
        ConfigError: names the place of what can't be honoured.
    """
    settings = kong_conf.load(conf)
    if "dns_resolver" in settings.settings:
        raise ConfigError(
            f"{conf}: dns_resolver: the embedded host asks the system for names; use a real Kong"
        )
    infos = tuple(plugin_servers.query(s) for s in settings.plugin_servers)
    schemas = {i.name: i.schema for i in infos if i.name in settings.plugins}
    include = nginx_include.load(settings.settings.get("nginx_http_include", ""))
    dicts = (*include.dicts, *settings.shared_dicts)
    state = LuaState(KongLog(), settings.settings, settings.lua_package_path, environ, dicts)
    own = lua_plugins.load(settings, {*SCHEMAS, *(i.name for i in infos)}, state)
    schemas |= {p.name: p.fields for p in own}
    text = declarative.read(config)
    made = declarative.load_text(
        text, external=schemas, environ=environ, files=vault.files(settings.settings)
    )
    return Loaded(
        conf=settings,
        config=made,
        plugins=infos,
        lua_plugins=own,
        lua=state,
        text=text,
        schemas=schemas,
        environ=environ,
        servers=include.servers,
    )


@dataclass(slots=True)
class _Client:
    """The client's side of one request, on aiohttp."""

    request: web.Request
    response: web.StreamResponse | None = field(default=None)

    async def head(self, status: int, headers: CIMultiDict[str]) -> None:
        self.response = web.StreamResponse(status=status, headers=headers)
        await self.response.prepare(self.request)

    async def write(self, chunk: bytes) -> None:
        if self.response is not None and chunk:
            await self.response.write(chunk)

    async def end(self) -> None:
        if self.response is not None:
            await self.response.write_eof()

    def cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


class Gateway:
    """The proxy and its status endpoint, in a running event loop.

    Raises:
        ConfigError: names the place of Lua that the host can't run.
    """

    def __init__(self, loaded: Loaded, log: KongLog) -> None:
        self._loaded = loaded
        self._log = log
        self._lua = loaded.lua or LuaState(log, loaded.conf.settings)
        self._lua.log = log
        self._stock = self._made_stock()
        for plugin in loaded.config.plugins:
            if own := self._stock.get(plugin.name):
                own.prepare(plugin)
        self._plugins_loaded = len(loaded.config.plugins)
        self._runners: list[web.AppRunner] = []
        limit = loaded.conf.body_buffer_size
        self._servers = [
            InnerServer(s, self._lua, log, lambda request: _exchange(request, limit)) for s in loaded.servers
        ]
        self._client: Client | None = None
        self._pipeline: Pipeline | None = None
        self._external = {
            i.name: ExternalPlugin(i, log, loaded.conf.socket_timeout_s) for i in loaded.plugins
        }
        self._supervisor = Supervisor(loaded.conf.plugin_servers, log)

    async def start(
        self, host: str, port: int, status_port: int | None = None, admin_port: int | None = None
    ) -> tuple[int, int, int]:
        """Listen; the ports of proxy, status and Admin API, the latter two 0 where there is none."""
        _pass_any_bytes()
        conf = self._loaded.conf
        self._client = Client(self._lua, conf.next_upstream, keepalive=conf.upstream_keepalive)
        self._pipeline = Pipeline(self._loaded.config, self._stock, self._external, self._client, self._log)
        self._supervisor.start()
        for server in self._servers:
            await server.start()
        app = web.Application(client_max_size=self._loaded.conf.max_body_size or 1 << 40)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        app.on_response_prepare.append(_no_default_type)
        proxy = await self._listen(app, host, port)
        admin = status_app = 0
        if admin_port is not None:
            admin = await self._listen(admin_app(self._loaded.text, self.take), host, admin_port)
        if status_port is not None:
            status = web.Application()
            status.router.add_get("/status", self._status)
            status.router.add_get("/status/ready", self._status)
            status_app = await self._listen(status, host, status_port)
        return proxy, status_app, admin

    async def take(self, text: str) -> None:
        """Go by another configuration; requests in flight go on by the one that they began with.

        Raises:
            ConfigError: names the place of what can't be honoured; the old one stays.
        """
        if self._client is None or self._pipeline is None:
            raise ConfigError("the gateway doesn't run")
        loaded = self._loaded
        config = await asyncio.to_thread(
            declarative.load_text,
            text,
            external=loaded.schemas,
            environ=loaded.environ,
            loaded=self._plugins_loaded,
            files=vault.files(loaded.conf.settings),
        )
        stock = {**self._stock, KeyAuth.name: KeyAuth(config.credentials)}
        for plugin in config.plugins:
            if own := stock.get(plugin.name):
                own.prepare(plugin)
        self._plugins_loaded += len(config.plugins)
        self._stock = stock
        self._pipeline = self._pipeline.successor(config, stock)

    def _made_stock(self) -> dict[str, StockPlugin]:
        plugins: tuple[StockPlugin, ...] = (
            CorrelationId(),
            KeyAuth(self._loaded.config.credentials),
            RequestSizeLimiting(),
            Cors(),
            Acl(),
            AiProxy(self._lua),
            FileLog(self._lua),
            *(Function(name, self._lua) for name in _FUNCTIONS),
            *self._loaded.lua_plugins,
        )
        return {p.name: p for p in plugins}

    async def _listen(self, app: web.Application, host: str, port: int) -> int:
        # handler_cancellation tells us when a client leaves.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, keepalive_timeout=75.0, auto_decompress=False
        )
        await runner.setup()
        self._runners.append(runner)
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(f"can't listen on {host}:{port}: {error.strerror}") from error
        return int(runner.addresses[0][1])

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response({"message": "ready", "server": SERVER})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._pipeline is None:
            raise web.HTTPServiceUnavailable
        x = _exchange(request, self._loaded.conf.body_buffer_size)
        try:
            x.body = await request.read()
            x.request_size = (
                len(f"{x.method} {x.uri} HTTP/1.1\r\n\r\n")
                + sum(len(n) + len(v) + 4 for n, v in x.headers.items())
                + len(x.body)
            )
        except web.HTTPRequestEntityTooLarge:
            client = _Client(request)
            await self._pipeline.refuse(x, client, 413)
            return client.response or web.Response(status=413)
        client = _Client(request)
        if any(len(x.headers.getall(name, ())) > 1 for name in _UNIQUE):
            await self._pipeline.refuse(x, client, 400)
            return client.response or web.Response(status=400)
        # The request goes on by itself: when its client leaves, its log phase still has to run.
        task = asyncio.create_task(self._pipeline.run(x, client))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            x.client_gone = True
            if x.proxied:
                task.cancel()
            raise
        return client.response or web.Response(status=499)

    async def stop(self) -> None:
        """Stop listening, let log phases end, stop the plugin servers."""
        for runner in self._runners:
            await runner.cleanup()
        if self._pipeline:
            await self._pipeline.drain()
        for server in self._servers:
            await server.stop()
        await self._supervisor.stop()
        for plugin in self._external.values():
            plugin.close()
        if self._client:
            await self._client.close()


def _exchange(request: web.Request, body_limit: int) -> Exchange:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    sock = request.transport.get_extra_info("sockname") if request.transport else None
    uri = request.raw_path
    version = request.version
    return Exchange(
        request_id=uuid.uuid4().hex,
        method=request.method,
        uri=uri,
        args=uri.partition("?")[2],
        http_version=f"{version.major}.{version.minor}",
        host=request.headers.get("Host", "").rpartition(":")[0] or request.headers.get("Host", ""),
        server_port=sock[1] if sock else 0,
        client_ip=peer[0] if peer else "127.0.0.1",
        client_port=peer[1] if peer else 0,
        headers=CIMultiDict(request.headers),
        body=b"",
        body_limit=body_limit,
    )


async def _no_default_type(_request: web.Request, response: web.StreamResponse) -> None:
    # aiohttp names a type where there is none; nginx, with Kong's empty default_type, doesn't.
    if response.headers.get("Content-Type") == "application/octet-stream":
        del response.headers["Content-Type"]


def _pass_any_bytes() -> None:
    """Let header bytes that aren't UTF-8 pass: aiohttp reads them so, but writes strict UTF-8.

    nginx passes them on unchanged, and plugins have to live with them. There is no public way to say so.
    """
    strict = http_writer._serialize_headers  # noqa: SLF001
    if strict.__module__ == __name__:
        return

    def serialize(status_line: str, headers: CIMultiDict[str]) -> bytes:
        try:
            for value in headers.values():
                value.encode()
        except UnicodeEncodeError:
            lines = [status_line, *(f"{name}: {value}" for name, value in headers.items())]
            if any("\r" in line or "\n" in line or "\0" in line for line in lines):
                raise ValueError("forbidden control character in a header") from None
            return lua.to_bytes("\r\n".join(lines) + "\r\n\r\n")
        return strict(status_line, headers)

    http_writer._serialize_headers = serialize  # noqa: SLF001


async def _serve(args: argparse.Namespace, loaded: Loaded, log: KongLog) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    gateway = Gateway(loaded, log)
    try:
        proxy, status, admin = await gateway.start(args.host, args.port, args.status_port, args.admin_port)
        log.write("notice", f"embedded gateway (for development, not Kong) on {args.host}:{proxy}")
        if args.ports_file:
            ports = {"proxy": proxy, "status": status, "admin": admin, "pid": os.getpid()}
            _write_ports(args.ports_file, ports)
        watch = asyncio.create_task(_parent_watch(stopped)) if args.exit_with_parent else None
        await stopped.wait()
        if watch:
            watch.cancel()
    finally:
        await gateway.stop()


def _write_ports(path: Path, ports: dict[str, Any]) -> None:
    made = path.with_suffix(".new")
    made.write_text(json.dumps(ports))
    made.replace(path)


async def _parent_watch(stopped: asyncio.Event) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
    stopped.set()


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="kong.yml")
    parser.add_argument("--conf", type=Path, required=True, help="kong.conf")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--status-port", type=int)
    parser.add_argument("--admin-port", type=int, help="of the Admin API, on the same address")
    parser.add_argument("--error-log", type=Path)
    parser.add_argument("--log-level")
    parser.add_argument("--ports-file", type=Path, help="written when it listens")
    parser.add_argument("--exit-with-parent", action="store_true")
    args = parser.parse_args(argv)
    # A body nested as deeply as Kong takes it needs more frames than Python allows by default.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))
    try:
        loaded = load(args.config, args.conf)
        level = args.log_level or loaded.conf.settings.get("log_level", "notice")
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(args, loaded, KongLog(args.error_log, level)))
    except TenantgateError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
