"""rate-limiting, with its counters in this process or in Redis (`kong/plugins/rate-limiting`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import redis.asyncio
import redis.exceptions

from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.stock.base import StockPlugin

__all__ = ["RateLimiting"]

_WINDOWS_S: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "month": 2592000,
    "year": 31536000,
}
_NO_ID: Final = "00000000-0000-0000-0000-000000000000"
# policies/init.lua: counting and reading are one step, so that two requests can't read the same number.
_COUNT: Final = """
local cache_key, expiration = KEYS[1], ARGV[1]
local result_incr = redis.call("incr", cache_key)
if result_incr == 1 then
  redis.call("expire", cache_key, expiration)
end
return result_incr - 1
"""


class _Store(Protocol):
    async def usage(self, key: str, window_s: int) -> int: ...
    async def increment(self, key: str, window_s: int) -> None: ...


class _Local:
    """Counters of this process; it reads first and counts after, as Kong's does."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}

    async def usage(self, key: str, window_s: int) -> int:
        count, ends = self._counts.get(key, (0, 0.0))
        return count if ends > time.monotonic() else 0

    async def increment(self, key: str, window_s: int) -> None:
        now = time.monotonic()
        count, ends = self._counts.get(key, (0, 0.0))
        self._counts[key] = (count + 1, ends) if ends > now else (1, now + window_s)
        if len(self._counts) > 10_000:
            self._counts = {k: v for k, v in self._counts.items() if v[1] > now}


class _Redis:
    """Counters in Redis: reading counts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        timeout = config["timeout"] / 1000
        self._client = redis.asyncio.Redis(
            host=config["host"],
            port=config["port"],
            db=config["database"],
            username=config.get("username"),
            password=config.get("password") or None,
            ssl=config["ssl"],
            ssl_cert_reqs="required" if config["ssl_verify"] else "none",
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )

    async def usage(self, key: str, window_s: int) -> int:
        return int(await self._client.eval(_COUNT, 1, key, str(window_s)))

    async def increment(self, key: str, window_s: int) -> None:
        """Counted already."""


class RateLimiting(StockPlugin):
    """`handler.lua`; windows are calendar windows in UTC."""

    name = "rate-limiting"

    def __init__(self, log: KongLog) -> None:
        self._log = log
        self._local = _Local()
        self._redis: dict[str, _Redis] = {}

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """429 above a limit, and headers that tell how much is left."""
        config = conf.config
        limits = {p: config[p] for p in _WINDOWS_S if config.get(p)}
        now = int(time.time())
        starts = _starts(now)
        keys = {p: _key(x, config, starts[p], p) for p in limits}
        store: _Store = self._local
        if config["policy"] == "redis":
            store = self._redis.setdefault(conf.id, _Redis(config["redis"]))
        try:
            used = {p: await store.usage(keys[p], _WINDOWS_S[p]) for p in limits}
        except (redis.exceptions.RedisError, OSError) as error:
            if not config["fault_tolerant"]:
                raise
            self._log.write("err", f"[rate-limiting] failed to get usage: {type(error).__name__}")
            return
        left = {p: limits[p] - used[p] for p in limits}
        stop = next((p for p in reversed(limits) if left[p] <= 0), None)
        headers = {} if config["hide_client_headers"] else _headers(limits, left, stop, starts, now)
        if stop and headers:
            headers["Retry-After"] = headers["RateLimit-Reset"]
        for name, value in headers.items():
            x.out[name] = str(value)
        if stop:
            x.error(int(config["error_code"]), config["error_message"])
        for period, key in keys.items():
            await store.increment(key, _WINDOWS_S[period])


def _headers(
    limits: Mapping[str, float],
    left: Mapping[str, float],
    stop: str | None,
    starts: Mapping[str, int],
    now: int,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    best: tuple[float, int] | None = None
    for period, limit in limits.items():
        remaining = max(0, left[period] - (1 if stop in (None, period) else 0))
        window = _WINDOWS_S[period]
        headers[f"X-RateLimit-Limit-{period.title()}"] = _whole(limit)
        headers[f"X-RateLimit-Remaining-{period.title()}"] = _whole(remaining)
        # The tightest limit is the one that is told; of two as tight, the longer.
        if best is None or (remaining, -window) < best:
            best = (remaining, -window)
            headers["RateLimit-Limit"] = _whole(limit)
            headers["RateLimit-Remaining"] = _whole(remaining)
            headers["RateLimit-Reset"] = max(1, window - (now - starts[period]))
    return headers


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _starts(now: int) -> dict[str, int]:
    at = datetime.fromtimestamp(now, UTC)
    day = at.replace(hour=0, minute=0, second=0)
    edges = {
        "second": at,
        "minute": at.replace(second=0),
        "hour": at.replace(minute=0, second=0),
        "day": day,
        "month": day.replace(day=1),
        "year": day.replace(day=1, month=1),
    }
    return {period: int(edge.timestamp()) for period, edge in edges.items()}


def _key(x: Exchange, config: Mapping[str, Any], start: int, period: str) -> str:
    who = {
        "consumer": x.consumer and x.consumer.id,
        "credential": x.credential and x.credential.id,
        "service": x.match and x.match.route.service.id,
        "header": x.headers.get(config.get("header_name") or ""),
        "path": x.path if x.path == config.get("path") else None,
    }.get(config["limit_by"])
    route, service = config.get("route_id") or _NO_ID, config.get("service_id") or _NO_ID
    return f"ratelimit:{route}:{service}:{who or x.client_ip}:{start * 1000}:{period}"
