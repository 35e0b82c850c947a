"""Requests to the upstream: headers as nginx sends them, streams as they come, failures as statuses."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tenantgate.devhost import variables
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.lua_state import LuaState

__all__ = ["HOP_BY_HOP", "Client", "UpstreamError"]

HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "te", "transfer-encoding", "upgrade", "proxy-connection", "proxy", "trailer"}
)
_PORTS: Final = {"http": 80, "https": 443}


class UpstreamError(Exception):
    """No reply; `status` is what nginx gives the client for it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Failure(Exception):  # noqa: N818 - one try's end, which may have another after it
    """A try without a reply that counts."""

    def __init__(self, condition: str, status: int, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.condition = condition
        """As ``proxy_next_upstream`` names it."""
        self.status = status
        self.sent = sent
        """Whether the request may have reached the upstream."""


@dataclass(slots=True)
class _Request:
    """A request as it is built for a try."""

    url: URL
    headers: CIMultiDict[str]
    body: bytes


class Client:
    """One pool of connections for all upstreams.

    Args:
        lua: runs the callbacks that choose the target of another try.
        next_upstream: nginx's ``proxy_next_upstream``.
        keepalive: whether connections serve several requests.
    """

    def __init__(self, lua: LuaState, next_upstream: frozenset[str], *, keepalive: bool = True) -> None:
        self._lua = lua
        self._next = next_upstream
        # Upstreams may close an idle connection at any time; ours are let go before theirs usually are.
        idle: dict[str, Any] = {"keepalive_timeout": 10.0} if keepalive else {"force_close": True}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, family=socket.AF_UNSPEC, **idle),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )
        # aiohttp would send a PUT again by itself where an idle connection has ended; nginx counts that as a try.
        # There is no public way to say so.
        self._session._retry_connection = False  # noqa: SLF001

    async def send(self, x: Exchange) -> aiohttp.ClientResponse:
        """The reply's head; its body is still to come.

        Raises:
            UpstreamError: 504 for a time-out, 503 where a plugin has no other target, 502 for everything else.
        """
        if x.upstream is None or x.match is None:
            raise TypeError("not routed")
        service = x.match.route.service
        left = int(service.entity["retries"]) if x.retries is None else x.retries
        # ngx.var.upstream_host, which set_target sets, becomes the Host of every try (kong/runloop/handler.lua,
        # access.after), unless a plugin says otherwise.
        if x.lua is not None and x.upstream.host_header:
            x.lua[b"tables"][b"balancer_data"][b"preserve_host"] = True
        # nginx evaluates proxy_pass once for all tries: the path and the query stay.
        path = x.upstream.path + (f"?{x.args}" if x.args else "")
        request = _built(x, path, x.upstream.host_header or _with_port(x))
        while True:
            try:
                return await self._once(x, request, last=left == 0)
            except _Failure as failure:
                if not left or not self._goes_on(x, failure):
                    raise UpstreamError(failure.status, str(failure)) from failure
            left -= 1
            request = self._again(x, request, path)

    def _goes_on(self, x: Exchange, failure: _Failure) -> bool:
        # ngx_http_upstream_next: what may have been sent is repeated only if that does no harm.
        idempotent = x.method not in ("POST", "LOCK", "PATCH")
        if failure.sent and not idempotent and "non_idempotent" not in self._next:
            return False
        return failure.condition in self._next

    def _again(self, x: Exchange, request: _Request, path: str) -> _Request:
        """The request of another try (kong/init.lua, Kong.balancer)."""
        x.phase, x.rebuild = Phase.BALANCER, False
        if (why := self._lua.retry(x)) is not None:
            self._lua.log.write("err", f"retry handler failed: {why}")
            raise UpstreamError(503, "failure to get a peer from retry handler")
        if x.upstream is None:
            raise TypeError("not routed")
        host = _with_port(x)
        preserved = x.lua is None or x.lua[b"tables"][b"balancer_data"][b"preserve_host"]
        if not x.rebuild and (preserved or host == x.upstream.host_header):
            # The request that was built for the first try goes to another address.
            to = _built(x, path, host)
            return _Request(to.url, request.headers, request.body)
        if not preserved:
            x.upstream.host_header = host
        return _built(x, path, x.upstream.host_header or host)

    async def _once(self, x: Exchange, request: _Request, *, last: bool) -> aiohttp.ClientResponse:
        if x.match is None:
            raise TypeError("not routed")
        connect, _, read = x.timeouts or x.match.route.service.timeouts
        attempt: dict[str, object] = {
            "balancer_start": int(time.time() * 1000),
            "balancer_start_ns": time.time_ns(),
            "balancer_latency": 0,
            "balancer_latency_ns": 0,
            "ip": request.url.host,
            "port": request.url.port,
        }
        x.tries.append(attempt)
        x.sent_upstream.append(len(request.body or b"") + len(request.headers))
        try:
            response = await self._session.request(
                x.method,
                request.url,
                data=io.BytesIO(request.body) if request.body else None,
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect / 1000, sock_read=read / 1000),
            )
        except aiohttp.ClientConnectorError as error:
            attempt |= {"state": "failed", "code": 502}
            reason = f"upstream failed: {type(error).__name__}"
            x.sent_upstream[-1] = 0
            raise _Failure("error", 502, reason, sent=False) from error
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            attempt |= {"state": "failed", "code": 504}
            sent = not isinstance(error, aiohttp.ConnectionTimeoutError)
            x.sent_upstream[-1] *= sent
            raise _Failure("timeout", 504, "upstream timed out", sent=sent) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            attempt |= {"state": "failed", "code": 502}
            raise _Failure("error", 502, f"upstream failed: {type(error).__name__}", sent=True) from error
        failure = _Failure(f"http_{response.status}", response.status, "upstream's status", sent=True)
        if not last and self._goes_on(x, failure):
            attempt |= {"state": "next", "code": response.status}
            response.close()
            raise failure
        return response

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await asyncio.sleep(0)


def _built(x: Exchange, path: str, host: str) -> _Request:
    to = x.upstream
    if to is None:
        raise TypeError("not routed")
    at = f"[{to.host}]" if ":" in to.host else to.host
    url = URL(f"{to.scheme}://{at}:{to.port}{path}", encoded=True)
    return _Request(url, _headers(x, host), x.body)


def _with_port(x: Exchange) -> str:
    to = x.upstream
    if to is None:
        raise TypeError("not routed")
    host = f"[{to.host}]" if ":" in to.host else to.host
    return host if to.port == _PORTS[to.scheme] else f"{host}:{to.port}"


def _headers(x: Exchange, host: str) -> CIMultiDict[str]:
    dropped = HOP_BY_HOP | {"host", "content-length", "x-real-ip"}
    dropped |= {t.strip().lower() for t in x.headers.get("Connection", "").split(",")}
    headers = CIMultiDict((n, v) for n, v in x.headers.items() if n.lower() not in dropped)
    headers["Host"] = host
    if x.body or x.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(len(x.body))
    values = {**variables.forwarded(x), **x.variables}
    _put(headers, ((header, values[name]) for name, header in variables.FORWARDED.items()))
    _put(headers, (("X-Real-IP", x.client_ip), ("X-Kong-Request-Id", x.request_id)))
    return headers


def _put(headers: CIMultiDict[str], pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        headers.popall(name, None)
        if value:
            headers[name] = value
