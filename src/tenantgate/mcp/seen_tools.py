"""What remote servers' lists last showed of pinned tools, known to all processes and nodes.

A call doesn't look at the server's list again, so whoever calls must know what any process saw of the tool last. A
hash ``tg:mcp:1:{tenant}:SERVER`` has the fingerprint by the tool's name, with an expiry. A process whose Redis can't be
asked goes by what it saw itself. A pinned tool of which nothing is known isn't called.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis

from tenantgate.bounded import Bounded
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_limits import REQUEST
from tenantgate.store.redis_nodes import Nodes, connect
from tenantgate.store.shared import Shared
from tenantgate.telemetry import logs
from tenantgate.tenant import TenantId

__all__ = ["SeenTools", "seen_tools"]

_log: Final = logging.getLogger("tenantgate.mcp")
_KEEP_S: Final = 30 * 86_400
_AGAIN_S: Final = 86_400
_MOST: Final = 10_000  # servers that a process remembers


class SeenTools:
    """Fingerprints of remote tools, as lists last showed them; thread-safe.

    Args:
        nodes: where they lie for all processes; None: each process knows its own.
        clock: seconds that never go back.
    """

    def __init__(self, nodes: Nodes | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes, self._clock = nodes, clock
        self._own: Bounded[str, tuple[dict[str, str], float]] = Bounded(_MOST)

    def note(self, tenant: TenantId, server: str, fingerprints: Mapping[str, str]) -> None:
        """Remember what a list showed of pinned tools, by name."""
        key, now = _key(tenant, server), self._clock()
        known, written = self._own.get(key) or ({}, -_AGAIN_S)
        merged = {**known, **fingerprints}
        if not fingerprints or (merged == known and now - written < _AGAIN_S):
            return
        self._own.put(key, (merged, now))
        if self._nodes is None:
            return

        def write(client: Any) -> None:
            with client.pipeline(transaction=False) as pipeline:
                pipeline.hset(key, mapping=dict(fingerprints))
                pipeline.expire(key, _KEEP_S)
                pipeline.execute()

        try:
            self._nodes.ask(key, write)
        except (redis.RedisError, OSError) as error:
            self._own.put(key, (merged, now - _AGAIN_S))  # the next list is written again
            logs.event(_log, logging.WARNING, "a list of tools wasn't noted", kind=type(error).__name__)

    def last(self, tenant: TenantId, server: str, tool: str) -> str | None:
        """The fingerprint that the last list showed of a tool; None where nobody is known to have seen it."""
        key = _key(tenant, server)
        own = (self._own.get(key) or ({}, 0.0))[0].get(tool)
        if self._nodes is None:
            return own
        try:
            found = self._nodes.ask(key, lambda client: client.hget(key, tool))
        except (redis.RedisError, OSError) as error:
            logs.event(_log, logging.WARNING, "lists of tools can't be looked up", kind=type(error).__name__)
            return own
        return own if found is None else found.decode("utf-8", "replace")


def _key(tenant: TenantId, server: str) -> str:
    return f"tg:mcp:1:{{{tenant.slug}}}:{server}"


_shared: Final[Shared[SeenTools]] = Shared(16)


def seen_tools(config: RedisConfig) -> SeenTools:
    """The process's own, by its Redis."""
    return _shared.get(config, lambda: SeenTools(connect(config, limits=REQUEST)))
