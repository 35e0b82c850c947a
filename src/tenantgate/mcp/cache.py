"""Replies of APIs to calls of read-only tools, kept for a while: the same call gets the same reply, without the API.

What is kept is the API's reply as it came, so that guards read it again whenever it is given. It is sealed with its
tenant's key and lies under a name that only this key makes: ``tg:mcp:1:{tenant}:<name>``, with an expiry. Whatever
fails in Redis is a miss.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import redis

from tenantgate.mcp.core.tool import Json, Server, Tool
from tenantgate.store.breaker import Breaker
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_limits import REQUEST
from tenantgate.store.redis_nodes import Nodes, connect
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.shared import Shared
from tenantgate.telemetry import logs, metrics
from tenantgate.tenant import TenantId

__all__ = ["ReplyCache", "StoredReply", "reply_cache"]

T = TypeVar("T")

_log: Final = logging.getLogger("tenantgate.mcp.cache")
_MOST: Final = 512 * 1024  # bytes of a reply that is kept
_FORMAT: Final = 1

_lookups: Final = metrics.counter(
    "tenantgate_mcp_cache_total", "Calls of tools whose results may be kept, by what was found.", ("outcome",)
)


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What an API has answered with 200."""

    kind: str
    """Its ``Content-Type``."""
    body: bytes = field(repr=False)


class ReplyCache:
    """Replies of all tenants' tools; thread-safe, and never raises for Redis' sake.

    Args:
        nodes: where they lie.
        encryption_key: the operator's, from which each tenant's own is derived.
    """

    def __init__(self, nodes: Nodes, *, encryption_key: str) -> None:
        self._nodes, self._encryption_key = nodes, encryption_key
        self._breaker, self._lock = Breaker(), threading.Lock()
        self._sealers: dict[TenantId, TenantSealer] = {}

    def key(self, tenant: TenantId, server: Server, tool: Tool, arguments: Json) -> str:
        """The name of a call's reply: of the tool as it is, the API that is asked, and the arguments.

        Members' order in `arguments` says nothing. What the API knows the gateway by is part of it, as a reference.
        """
        credential = server.credential
        parts = [
            _FORMAT,
            server.name,
            tool.name,
            tool.fingerprint,
            repr(tool.operation),  # how arguments are written, of which the fingerprint says nothing
            server.upstream,
            None if credential is None else repr(credential),
            sorted(server.headers.items()),
            arguments,
        ]
        text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        name = self._sealer(tenant).name(b"mcp:" + text.encode("ascii"))
        return f"tg:mcp:1:{{{tenant.slug}}}:{name}"

    def find(self, tenant: TenantId, key: str) -> StoredReply | None:
        """The reply under this `key`; None where there is none, or Redis can't be asked."""
        sealed = self._ask(key, lambda client: client.get(key))
        plain = self._sealer(tenant).open(sealed, key=key.encode()) if isinstance(sealed, bytes) else None
        _lookups.inc(outcome="miss" if plain is None else "hit")
        if plain is None:
            return None
        kind, _, body = plain.partition(b"\n")
        return StoredReply(kind.decode("utf-8", "replace"), body)

    def keep(self, tenant: TenantId, key: str, reply: StoredReply, ttl_s: int) -> None:
        """Keep a reply for so many seconds. A large one isn't."""
        if len(reply.body) > _MOST or "\n" in reply.kind:
            return
        plain = reply.kind.encode("utf-8", "replace") + b"\n" + reply.body
        sealed = self._sealer(tenant).seal(plain, key=key.encode())
        self._ask(key, lambda client: client.set(key, sealed, ex=ttl_s))

    def _sealer(self, tenant: TenantId) -> TenantSealer:
        found = self._sealers.get(tenant)
        if found is None:
            found = self._sealers[tenant] = TenantSealer(self._encryption_key, tenant)
        return found

    def _ask(self, key: str, call: Callable[[Any], T]) -> T | None:
        with self._lock:
            if not self._breaker.allows(time.monotonic()):
                return None
        try:
            found = self._nodes.ask(key, call)
        except (redis.RedisError, OSError) as error:
            with self._lock:
                self._breaker.failed(time.monotonic())
            logs.event(_log, logging.WARNING, "replies of tools can't be kept", kind=type(error).__name__)
            return None
        with self._lock:
            self._breaker.succeeded()
        return found


_caches: Final[Shared[ReplyCache]] = Shared(16)


def reply_cache(config: RedisConfig, encryption_key: str) -> ReplyCache:
    """The process's cache."""
    return _caches.get(
        (config, encryption_key),
        lambda: ReplyCache(connect(config, limits=REQUEST), encryption_key=encryption_key),
    )
