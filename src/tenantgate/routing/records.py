"""Switches and health in Redis, for the commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import redis

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.routing.core.health import Health, read_health
from tenantgate.routing.core.switches import Switch, within
from tenantgate.routing.stored import (
    EVENTS,
    INDEX,
    SWITCHES,
    add_event,
    health_key,
    open_switches,
    seal_switch,
    switch_field,
)

if TYPE_CHECKING:
    from tenantgate.store.redis_nodes import Nodes
    from tenantgate.store.sealing import GatewaySealer

__all__ = ["RoutingRecords", "StoredHealth"]

_RESTORED_S: Final = 86_400.0
"""How long a restoration stays, for processes that could not reach Redis meanwhile."""
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class StoredHealth:
    """A deployment's health as it is stored."""

    deployment: str
    """Eight hexadecimal digits, as in metrics and events."""
    provider: str
    model: str
    host: str
    health: Health


class RoutingRecords:
    """What is stored; `keys` open and seal it."""

    def __init__(self, nodes: Nodes, keys: GatewaySealer) -> None:
        self._nodes, self._keys = nodes, keys

    def set(self, switch: Switch) -> None:
        """Store a switch, and the event.

        Raises:
            ConfigError: it would restore what isn't drained.
        """
        known, _ = self._switches()
        now = time.time()
        # The last word is told by its time, and the clock of who said the one before may be ahead.
        last = max((s.created for s in known.values()), default=0.0)
        if switch.created <= last:
            switch = replace(switch, created=last + 0.001)
        ended = {name for name, s in known.items() if not s.holds(now)}
        if not switch.drained:
            mine = [s for s in known.values() if s.drained and s.holds(now) and _same_tenant(s, switch)]
            if not any(within(s.scope, switch.scope) or within(switch.scope, s.scope) for s in mine):
                raise ConfigError(f"{switch.scope}: isn't drained")
            # What is drained within it is restored with it.
            ended |= {
                name
                for name, s in known.items()
                if within(s.scope, switch.scope) and switch.tenant in (None, s.tenant)
            }
            if not any(s.scope != switch.scope and within(switch.scope, s.scope) for s in mine):
                switch = replace(switch, until=switch.created + _RESTORED_S)
        field = switch_field(self._keys, switch.scope, switch.tenant)
        sealed = seal_switch(self._keys, field, switch)

        def commit(client: Any) -> None:
            pipe = client.pipeline(transaction=True)
            if gone := sorted(ended - {field}):
                pipe.hdel(SWITCHES, *gone)
            pipe.hset(SWITCHES, field, sealed)
            add_event(pipe, _event(switch))
            pipe.execute()

        self._ask(commit)

    def switches(self) -> list[Switch]:
        """Those that drain something now, the latest first."""
        known, _ = self._switches()
        now = time.time()
        found = [s for s in known.values() if s.drained and s.holds(now)]
        return sorted(found, key=lambda s: -s.created)

    def unauthenticated(self) -> int:
        """Number of stored switches that this key didn't seal."""
        return len(self._switches()[1])

    def health(self) -> list[StoredHealth]:
        """The health of all deployments that are stored, by provider and model."""
        now_ms = int(time.time() * 1000)

        def read(client: Any) -> list[tuple[str, bytes | None]]:
            names = [name.decode() for name in client.zrangebyscore(INDEX, now_ms, "+inf")]
            client.zremrangebyscore(INDEX, "-inf", f"({now_ms}")
            found: list[tuple[str, bytes | None]] = []
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                found += zip(some, client.mget([health_key(name) for name in some]), strict=True)
            return found

        out = []
        for digest, raw in self._ask(read):
            plain = None if raw is None else self._keys.open(raw, key=health_key(digest).encode())
            if plain is not None and (opened := read_health(plain)) is not None:
                health, about = opened
                provider, model, host = (about.get(name, "") for name in ("provider", "model", "host"))
                out.append(StoredHealth(digest[:8], provider, model, host, health))
        return sorted(out, key=lambda s: (s.provider, s.model, s.deployment))

    def events(self, most: int = 50) -> list[dict[str, str]]:
        """The latest events, the newest first."""
        found = self._ask(lambda client: client.xrevrange(EVENTS, count=most))
        return [{k.decode(): v.decode("utf-8", "replace") for k, v in fields.items()} for _, fields in found]

    def _switches(self) -> tuple[dict[str, Switch], tuple[str, ...]]:
        return open_switches(self._ask(lambda client: client.hgetall(SWITCHES)), self._keys)

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        try:
            return self._nodes.ask(INDEX, call)
        except (redis.RedisError, OSError) as error:
            raise EdgeError(f"redis: {type(error).__name__}") from None


def _same_tenant(drained: Switch, restored: Switch) -> bool:
    return restored.tenant in (None, drained.tenant) or drained.tenant is None


def _event(switch: Switch) -> dict[str, str]:
    fields = {
        "event": "drained" if switch.drained else "restored",
        "target": switch.scope,
        "tenant": switch.tenant or "",
        "by": switch.by,
        "reason": switch.reason,
        "until": str(int(switch.until)) if switch.drained and switch.until is not None else "",
    }
    return {k: v for k, v in fields.items() if v}
