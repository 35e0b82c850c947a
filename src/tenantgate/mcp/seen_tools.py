"""What remote servers' lists last showed of pinned tools, known to all processes and nodes.

A call doesn't look at the server's list again, so whoever calls must know what any process saw of the tool last. A
hash ``tg:mcp:1:{tenant}:SERVER`` has the fingerprint by the tool's name, with an expiry; each is sealed with its
tenant's key for its server and tool, so that nobody without the key can have a changed tool called. A process whose
Redis can't be asked goes by what it saw itself. A pinned tool of which nothing is known isn't called.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import redis

from tenantgate.bounded import Bounded
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_limits import REQUEST
from tenantgate.store.redis_nodes import Nodes, connect
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.shared import Shared
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

__all__ = ["SeenTools", "seen_tools"]

_log: Final = logging.getLogger("tenantgate.mcp")
_KEEP_S: Final = 30 * 86_400
_MOST: Final = 10_000  # servers that a process remembers


class SeenTools:
    """Fingerprints of remote tools, as lists last showed them; thread-safe.

    Args:
        nodes: where they lie for all processes; None: each process knows its own.
        encryption_key: the operator's, from which each tenant's own is derived.
    """

    def __init__(self, nodes: Nodes | None, *, encryption_key: str) -> None:
        self._nodes, self._encryption_key = nodes, encryption_key
        self._own: Bounded[str, dict[str, str]] = Bounded(_MOST)
        self._sealers: Bounded[TenantId, TenantSealer] = Bounded(_MOST)

    def note(self, tenant: TenantId, server: str, fingerprints: Mapping[str, str]) -> None:
        """Remember what a list showed of pinned tools, by name.

        It is written whatever this process has seen before: another may have seen something else since.
        """
        if not fingerprints:
            return
        key, sealer = _key(tenant, server), self._sealer(tenant)
        self._own.put(key, {**(self._own.get(key) or {}), **fingerprints})
        if self._nodes is None:
            return
        sealed = {
            tool: sealer.seal(text.encode(), key=_about(key, tool)) for tool, text in fingerprints.items()
        }

        def write(client: Any) -> None:
            with client.pipeline(transaction=False) as pipeline:
                pipeline.hset(key, mapping=sealed)
                pipeline.expire(key, _KEEP_S)
                pipeline.execute()

        try:
            self._nodes.ask(key, write)
        except (redis.RedisError, OSError) as error:
            logs.event(_log, logging.WARNING, "a list of tools wasn't noted", kind=type(error).__name__)

    def last(self, tenant: TenantId, server: str, tool: str) -> str | None:
        """The fingerprint that the last list showed of a tool; None where nobody is known to have seen it."""
        key = _key(tenant, server)
        own = (self._own.get(key) or {}).get(tool)
        if self._nodes is None:
            return own
        try:
            found = self._nodes.ask(key, lambda client: client.hget(key, tool))
        except (redis.RedisError, OSError) as error:
            logs.event(_log, logging.WARNING, "lists of tools can't be looked up", kind=type(error).__name__)
            return own
        if found is None:
            return own
        plain = self._sealer(tenant).open(found, key=_about(key, tool))
        if plain is None:
            logs.event(_log, logging.WARNING, "what was seen of a tool wasn't written with the tenant's key")
        return None if plain is None else plain.decode()

    def _sealer(self, tenant: TenantId) -> TenantSealer:
        found = self._sealers.get(tenant)
        if found is None:
            self._sealers.put(tenant, found := TenantSealer(self._encryption_key, tenant))
        return found


def _about(key: str, tool: str) -> bytes:
    return f"{key}:{tool}".encode()


def _key(tenant: TenantId, server: str) -> str:
    return f"tg:mcp:1:{{{tenant.slug}}}:{server}"


_shared: Final[Shared[SeenTools]] = Shared(16)


def seen_tools(config: RedisConfig, encryption_key: str) -> SeenTools:
    """The process's own, by its Redis."""
    return _shared.get(
        (config, encryption_key),
        lambda: SeenTools(connect(config, limits=REQUEST), encryption_key=encryption_key),
    )
