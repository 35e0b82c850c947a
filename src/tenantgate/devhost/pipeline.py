"""A request's way through the phases, in Kong's order (`kong/init.lua`, `plugins_iterator.lua`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from multidict import CIMultiDict

from tenantgate.devhost.entities import GatewayConfig, PluginConfig
from tenantgate.devhost.exchange import (
    Answer,
    Exchange,
    Exited,
    Held,
    Phase,
    Upstream,
    error_body,
    status_message,
)
from tenantgate.devhost.external import ExternalPlugin, StartError
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_plugins import LuaPlugin
from tenantgate.devhost.lua_state import LuaError
from tenantgate.devhost.pdk import PdkError, Saved
from tenantgate.devhost.router import Router
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.devhost.stock_schemas import PRIORITIES
from tenantgate.devhost.upstream import HOP_BY_HOP, Client, UpstreamError
from tenantgate.devhost.variables import SERVER, note_upgrade, upgrades

__all__ = ["Downstream", "Pipeline"]

Plugin = StockPlugin | ExternalPlugin
# With `response_buffering` nginx passes a reply on in pieces of a page (proxy_buffers, 4k or 8k).
_PAGE: Final = 4096
_REPLACED: Final = frozenset(
    {"content-type", "content-length", "date", "server", "last-modified", "location"}
)


class Downstream(Protocol):
    """The way back to the client."""

    async def head(self, status: int, headers: CIMultiDict[str]) -> None:
        """Send status and headers."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body."""

    async def end(self) -> None:
        """End the body."""

    def cut(self) -> None:
        """Close the connection: the body can't be ended."""


@dataclass(slots=True)
class _Collected:
    plugins: list[tuple[Plugin, PluginConfig]]

    def stock(self) -> list[tuple[StockPlugin, PluginConfig]]:
        return [(p, c) for p, c in self.plugins if isinstance(p, StockPlugin)]

    def external(self, phase: Phase) -> list[tuple[ExternalPlugin, PluginConfig]]:
        return [
            (p, c) for p, c in self.plugins if isinstance(p, ExternalPlugin) and phase.value in p.info.phases
        ]


class Pipeline:
    """Everything between the two sockets."""

    def __init__(
        self,
        config: GatewayConfig,
        stock: Mapping[str, StockPlugin],
        external: Mapping[str, ExternalPlugin],
        client: Client,
        log: KongLog,
        *,
        background: set[asyncio.Task[None]] | None = None,
    ) -> None:
        self._router = Router(config.routes)
        self._external = external
        self._client = client
        self._log = log
        self._background = set() if background is None else background
        by_name: dict[str, dict[tuple[str | None, ...], PluginConfig]] = {}
        for plugin in config.plugins:
            by_name.setdefault(plugin.name, {})[plugin.scope] = plugin
        known: dict[str, Plugin] = {**stock, **external}
        # kong/db/dao/plugins.lua, sort_by_handler_priority: of equal ones the name that comes last is first.
        order = sorted(sorted(by_name, reverse=True), key=lambda name: -_priority(known[name]))
        self._plugins = [(known[name], by_name[name]) for name in order]

    def successor(self, config: GatewayConfig, stock: Mapping[str, StockPlugin]) -> Pipeline:
        """A pipeline for another configuration; this one's requests go on."""
        return Pipeline(config, stock, self._external, self._client, self._log, background=self._background)

    async def run(self, x: Exchange, client: Downstream) -> None:
        """All phases of one request; the log phase goes on in the background."""
        collected = _Collected([])
        try:
            try:
                self._rewrite(x, collected)
                await self._access(x, collected)
                await self._proxy(x, client, collected)
            except Exited as exited:
                await self._answer(x, client, collected, exited.answer)
        except LuaError as error:
            self._cut(x, client, error)
        except (ConnectionError, asyncio.CancelledError):
            x.client_gone = True
            if not x.status:
                x.status = 499
        finally:
            self._log_phase(x, collected)

    async def refuse(self, x: Exchange, client: Downstream, status: int) -> None:
        """Nginx refuses a request before any phase: the error page, with the global plugins' filters."""
        collected = _Collected(self._everywhere())
        try:
            await self._fail(x, client, collected, status)
        except LuaError as error:
            self._cut(x, client, error)
        self._log_phase(x, collected)

    def _cut(self, x: Exchange, client: Downstream, error: LuaError) -> None:
        # Lua failed in a filter: nginx ends the connection, whatever was sent (ngx_http_lua_headerfilterby.c).
        self._log.write("err", f"[{x.plugin.name if x.plugin else 'lua'}] {error}")
        client.cut()

    def _everywhere(self) -> list[tuple[Plugin, PluginConfig]]:
        return [(p, c) for p, s in self._plugins if (c := s.get((None, None, None)))]

    # -- rewrite and access

    def _rewrite(self, x: Exchange, collected: _Collected) -> None:
        """Global plugins before the request has a route; what ends the request here is seen by global plugins only."""
        x.phase = Phase.REWRITE
        for plugin, conf in self._everywhere():
            if isinstance(plugin, ExternalPlugin):
                continue
            x.plugin = conf
            try:
                plugin.rewrite(x, conf)
            except Exited:
                x.exited = True
                collected.plugins += self._everywhere()
                raise
            except LuaError as error:
                self._log.write("err", f"[{plugin.name}] {error}")
                collected.plugins += self._everywhere()
                raise self._unexpected(x) from None
        x.phase = Phase.ACCESS

    async def _access(self, x: Exchange, collected: _Collected) -> None:
        x.match = self._router.match(method=x.method, host=x.host, path=x.path, headers=x.headers)
        if x.match is None:
            collected.plugins += self._everywhere()
            x.error(404, "no Route matched with those values")
        note_upgrade(x)
        service = x.match.route.service
        x.upstream = Upstream(
            scheme=service.protocol,
            host=service.host,
            port=service.port,
            path=x.match.upstream_path(x.path),
            host_header=x.headers.get("Host") if x.match.route.preserve_host else None,
        )
        left: Exited | None = None
        for plugin, scopes in self._plugins:
            # The consumer may be known only now, so each plugin's configuration is looked up in its turn.
            conf = _most_specific(x, scopes)
            if conf is None:
                continue
            collected.plugins.append((plugin, conf))
            if isinstance(plugin, ExternalPlugin) and "response" in plugin.info.phases and left is None:
                x.ctx["buffered_proxying"] = True
                x.response_plugins.append(plugin.name)
            if left is None:
                left = await self._access_of(x, plugin, conf)
        if left:
            raise left

    async def _access_of(self, x: Exchange, plugin: Plugin, conf: PluginConfig) -> Exited | None:
        x.plugin = conf
        try:
            if isinstance(plugin, ExternalPlugin):
                if "access" in plugin.info.phases:
                    await plugin.handle(x, conf, Phase.ACCESS)
            else:
                await plugin.access(x, conf)
        except Exited as exited:
            x.exited = True
            return exited
        except (StartError, PdkError, LuaError) as error:
            self._log.write("err", f"[{plugin.name}] {error}")
        except Exception as error:  # noqa: BLE001 - a Lua error in a plugin is a 500, whatever it was
            self._log.write("err", f"[{plugin.name}] {type(error).__name__} in access")
        else:
            return None
        return self._unexpected(x)

    @staticmethod
    def _unexpected(x: Exchange) -> Exited:
        x.unexpected = x.exited = True
        kind, body = error_body(_accepted(x), status_message(500), x.request_id)
        return Exited(Answer(500, body.encode(), (("Content-Type", kind),)))

    # -- answers of the gateway's own

    async def _answer(self, x: Exchange, client: Downstream, collected: _Collected, answer: Answer) -> None:
        x.exited = True
        x.status = answer.status
        for name in {n.lower() for n, _ in answer.headers}:
            x.out.popall(name, None)
        for name, value in answer.headers:
            x.out.add(name, value)
        x.out["Content-Length"] = str(len(answer.body))
        await self._reply(x, client, collected, answer.body)

    async def _fail(self, x: Exchange, client: Downstream, collected: _Collected, status: int) -> None:
        # Where the reply was to be buffered, the error was a subrequest's, and Kong's mark is lost.
        x.unexpected = not x.ctx.get("buffered_proxying")
        kind, body = error_body(_accepted(x), status_message(status), x.request_id)
        x.upstream_headers = CIMultiDict()
        x.ctx.pop("buffered_proxying", None)
        await self._answer(x, client, collected, Answer(status, body.encode(), (("Content-Type", kind),)))

    async def _reply(self, x: Exchange, client: Downstream, collected: _Collected, body: bytes) -> None:
        """Send a body that is all there, through header_filter and body_filter."""
        self._header_filter(x, collected)
        out = b""
        if x.status in (204, 304):
            # nginx sends no body then, and runs no body filter.
            x.out.popall("Content-Length", None)
        else:
            out = self._body_filter(x, collected, body, last=False) if body else b""
            out += self._body_filter(x, collected, b"", last=True)
        if x.out.get("Content-Length", str(len(out))) != str(len(out)):
            x.out["Content-Length"] = str(len(out))
        await client.head(x.status, x.out)
        x.sent_bytes = _head_size(x) + len(out)
        await client.write(out)
        await client.end()

    # -- proxying

    async def _proxy(self, x: Exchange, client: Downstream, collected: _Collected) -> None:
        x.proxied = True
        if upgrades(x):
            x.ctx.pop("buffered_proxying", None)
        x.kong_latency_ms = x.elapsed_ms()
        sent = time.time()
        try:
            response = await self._client.send(x)
        except UpstreamError as error:
            self._log.write("err", f"{error}, request_id: {x.request_id}")
            x.waiting_ms = int((time.time() - sent) * 1000)
            if not x.ctx.get("buffered_proxying"):
                x.upstream_status = ", ".join([str(error.status)] * len(x.tries))
            await self._fail(x, client, collected, error.status)
            return
        async with response:
            x.status = response.status
            codes = [*(str(t["code"]) for t in x.tries if "code" in t), str(x.status)]
            x.upstream_status = x.status if x.ctx.get("buffered_proxying") else ", ".join(codes)
            x.upstream_headers = CIMultiDict(response.headers)
            try:
                if x.ctx.get("buffered_proxying"):
                    await self._buffered(x, client, collected, response, sent)
                else:
                    x.waiting_ms = int((time.time() - sent) * 1000)
                    await self._streamed(x, client, collected, response)
            except (aiohttp.ClientError, TimeoutError) as error:
                self._log.write("err", f"upstream left: {type(error).__name__}, request_id: {x.request_id}")
                client.cut()

    async def _buffered(
        self,
        x: Exchange,
        client: Downstream,
        collected: _Collected,
        response: aiohttp.ClientResponse,
        sent: float,
    ) -> None:
        try:
            x.buffered_body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._log.write("err", f"upstream left: {type(error).__name__}, request_id: {x.request_id}")
            # Kong takes the status that had come, even 200, for the error's.
            await self._fail(x, client, collected, response.status)
            return
        x.waiting_ms = int((time.time() - sent) * 1000)
        x.buffered_headers = x.upstream_headers
        for name in {n.lower() for n in x.upstream_headers} - HOP_BY_HOP:
            x.out.popall(name, None)
            for value in x.upstream_headers.getall(name):
                x.out.add(name.title() if name.islower() else name, value)
        x.phase = Phase.RESPONSE
        removed = _removed(x)
        for plugin, conf in collected.external(Phase.RESPONSE):
            if plugin.name in removed:
                continue
            x.plugin = conf
            try:
                await plugin.handle(x, conf, Phase.RESPONSE)
            except (StartError, PdkError) as error:
                self._log.write("err", f"[{plugin.name}] {error}")
                await self._fail(x, client, collected, 500)
                return
        await self._reply(x, client, collected, x.buffered_body)

    async def _streamed(
        self, x: Exchange, client: Downstream, collected: _Collected, response: aiohttp.ClientResponse
    ) -> None:
        for name, value in x.upstream_headers.items():
            lower = name.lower()
            if lower in HOP_BY_HOP:
                continue
            if lower in _REPLACED:
                x.out.popall(name, None)
            x.out.add(name, value)
        self._header_filter(x, collected)
        await client.head(x.status, x.out)
        x.sent_bytes = _head_size(x)
        whole = x.match is not None and x.match.route.response_buffering
        held, latest = b"", b""
        started = time.time()
        async for chunk in response.content.iter_any():
            held, latest = held + latest, chunk
            if len(held) >= (_PAGE if whole else 1):
                await self._write(x, client, self._body_filter(x, collected, held, last=False))
                held = b""
            if not whole:
                await self._write(x, client, self._body_filter(x, collected, latest, last=False))
                latest = b""
        # nginx's last read comes as a piece of its own.
        for piece in filter(None, (held, latest)):
            await self._write(x, client, self._body_filter(x, collected, piece, last=False))
        x.receive_ms = int((time.time() - started) * 1000)
        await self._write(x, client, self._body_filter(x, collected, b"", last=True))
        await client.end()

    async def _write(self, x: Exchange, client: Downstream, chunk: bytes) -> None:
        if chunk:
            x.sent_bytes += len(chunk)
            await client.write(chunk)

    # -- filters and log

    def _header_filter(self, x: Exchange, collected: _Collected) -> None:
        x.phase = Phase.HEADER_FILTER
        for plugin, conf in collected.stock():
            x.plugin = conf
            plugin.header_filter(x, conf)
        # kong/runloop/handler.lua, header_filter.after
        if x.proxied:
            x.out["X-Kong-Upstream-Latency"] = str(x.waiting_ms or 0)
            x.out["X-Kong-Proxy-Latency"] = str(x.kong_latency_ms or 0)
            via = x.upstream_headers.get("Via")
            x.out.popall("Via", None)
            x.out["Via"] = (via + ", " if via else "") + f"1.1 {SERVER}"
            x.out.setdefault("Server", SERVER)
        else:
            x.kong_latency_ms = x.elapsed_ms()
            x.out["X-Kong-Response-Latency"] = str(x.kong_latency_ms)
            x.out["Server"] = SERVER
        x.out["X-Kong-Request-Id"] = x.request_id

    def _body_filter(self, x: Exchange, collected: _Collected, chunk: bytes, *, last: bool) -> bytes:
        x.phase = Phase.BODY_FILTER
        for plugin, conf in collected.stock():
            x.plugin = conf
            chunk = plugin.body_filter(x, conf, chunk, last=last)
        return chunk

    def _log_phase(self, x: Exchange, collected: _Collected) -> None:
        x.phase = Phase.LOG
        for plugin, conf in collected.plugins:
            x.plugin = conf
            try:
                if isinstance(plugin, ExternalPlugin):
                    if "log" in plugin.info.phases:
                        task = asyncio.create_task(plugin.log_phase(x, conf, Saved.of(x)))
                        self._background.add(task)
                        task.add_done_callback(self._background.discard)
                else:
                    plugin.log(x, conf)
            except LuaError as error:
                self._log.write("err", f"[{plugin.name}] {error}")
            except Exception as error:  # noqa: BLE001 - one log plugin's failure is no other's
                self._log.write("err", f"[{plugin.name}] {type(error).__name__} in log")

    async def drain(self) -> None:
        """Wait for log phases that still run."""
        if self._background:
            await asyncio.wait(self._background, timeout=5)


def _head_size(x: Exchange) -> int:
    return 17 + sum(len(n) + len(v) + 4 for n, v in x.out.items()) + len("Connection: keep-alive\r\n") + 2


def _accepted(x: Exchange) -> str:
    # kong/error_handlers.lua: here the request's Content-Type counts where it has no Accept.
    return x.headers.get("Accept") or x.headers.get("Content-Type") or "text/plain"


def _priority(plugin: Plugin) -> int:
    if isinstance(plugin, ExternalPlugin | LuaPlugin):
        return plugin.priority
    return PRIORITIES[plugin.name]


def _removed(x: Exchange) -> frozenset[str]:
    """Plugins that Lua has taken out of ``ngx.ctx.plugins.response``."""
    plugins = x.ctx.get("plugins")
    return frozenset(plugins.plain()) if isinstance(plugins, Held) else frozenset()


def _most_specific(x: Exchange, scopes: Mapping[tuple[str | None, ...], PluginConfig]) -> PluginConfig | None:
    # plugins_iterator.lua, lookup_cfg.
    route = x.match.route.id if x.match else None
    service = x.match.route.service.id if x.match else None
    consumer = x.consumer.id if x.consumer else None
    for scope in (
        (route, service, consumer),
        (route, None, consumer),
        (None, service, consumer),
        (route, service, None),
        (None, None, consumer),
        (route, None, None),
        (None, service, None),
        (None, None, None),
    ):
        if found := scopes.get(scope):
            return found
    return None
