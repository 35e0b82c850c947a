"""Requests to the upstream: headers as nginx sends them, streams as they come, failures as statuses."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from collections.abc import Iterable
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tenantgate.devhost import variables
from tenantgate.devhost.exchange import Exchange

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


class Client:
    """One pool of connections for all upstreams."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            # Upstreams may close an idle connection at any time; ours are let go before theirs usually are.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10.0, family=socket.AF_UNSPEC),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )

    async def send(self, x: Exchange) -> aiohttp.ClientResponse:
        """The reply's head; its body is still to come.

        Raises:
            UpstreamError: 504 for a time-out, 502 for everything else.
        """
        if x.upstream is None or x.match is None:
            raise TypeError("not routed")
        service, to = x.match.route.service, x.upstream
        port = "" if to.port == _PORTS[to.scheme] else f":{to.port}"
        host = f"[{to.host}]" if ":" in to.host else to.host
        url = URL(f"{to.scheme}://{host}:{to.port}{to.path}{'?' + x.args if x.args else ''}", encoded=True)
        for left in range(int(service.entity["retries"]), -1, -1):
            try:
                return await self._once(x, url, to.host_header or host + port)
            except aiohttp.ClientConnectorError as error:
                # Nothing was sent, so nginx tries again, a POST too.
                if not left:
                    raise UpstreamError(502, f"upstream failed: {type(error).__name__}") from error
        raise UpstreamError(502, "no attempt")

    async def _once(self, x: Exchange, url: URL, host: str) -> aiohttp.ClientResponse:
        if x.match is None:
            raise TypeError("not routed")
        service = x.match.route.service
        attempt: dict[str, object] = {
            "balancer_start": int(time.time() * 1000),
            "balancer_start_ns": time.time_ns(),
            "balancer_latency": 0,
            "balancer_latency_ns": 0,
            "ip": url.host,
            "port": url.port,
        }
        x.tries.append(attempt)
        try:
            return await self._session.request(
                x.method,
                url,
                data=io.BytesIO(x.body) if x.body else None,
                headers=_headers(x, host),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=service.connect_timeout / 1000,
                    sock_read=service.read_timeout / 1000,
                ),
            )
        except aiohttp.ClientConnectorError:
            attempt |= {"state": "failed", "code": 502}
            raise
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamError(504, "upstream timed out") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(502, f"upstream failed: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await asyncio.sleep(0)


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
