"""One tenant's exemptions, counts and events in Redis, for the commands."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.guard.core.exemptions import Exemption, State, approve
from tenantgate.guard.stored import Keys, OpenedExemptions, add_event, day_of, open_exemptions

if TYPE_CHECKING:
    from tenantgate.store.redis_nodes import Nodes
    from tenantgate.store.sealing import TenantSealer
    from tenantgate.tenant import TenantId

__all__ = ["GuardRecords", "new_id"]


class GuardRecords:
    """One tenant's exemptions, counts and events, for the commands.

    Without a `sealer` exemptions can neither be read nor written.
    """

    def __init__(self, nodes: Nodes, tenant: TenantId, sealer: TenantSealer | None = None) -> None:
        self._nodes = nodes
        self._keys = Keys(tenant)
        self._sealer = sealer

    def grant(self, exemption: Exemption) -> None:
        """Store an exemption, in force or requested, and the event."""
        event = "requested" if exemption.state is State.REQUESTED else "granted"
        self._write(exemption, event, exemption.by)

    def approve(self, identifier: str, by: str) -> Exemption:
        """Put a requested exemption in force.

        Raises:
            ConfigError: there is none, or it is the same person.
        """
        approved = approve(self._one(identifier), by)
        self._write(approved, "approved", by)
        return approved

    def revoke(self, identifier: str, by: str) -> None:
        """End an exemption, also one that the tenant's key didn't seal; that needs no key.

        Raises:
            ConfigError: there is none.
        """
        if not self._ask(lambda client: client.exists(self._keys.exemption(identifier))):
            raise ConfigError(f"exemption {identifier}: this tenant has none of that id")

        def run(pipe: Any) -> None:
            pipe.delete(self._keys.exemption(identifier))
            pipe.zrem(self._keys.index, identifier)
            add_event(pipe, self._keys, {"event": "revoked", "id": identifier, "by": by})

        self._transaction(run)

    def exemptions(self) -> list[Exemption]:
        """All that have not expired, in the order in which they end."""
        return list(self._read().opened)

    def unauthenticated(self) -> tuple[str, ...]:
        """Ids of stored exemptions that the tenant's key didn't seal."""
        return self._read().refused

    def _read(self) -> OpenedExemptions:
        def get(client: Any) -> dict[str, bytes | None]:
            names = [name.decode() for name in client.zrangebyscore(self._keys.index, time.time(), "+inf")]
            values = client.mget([self._keys.exemption(name) for name in names]) if names else []
            return dict(zip(names, values, strict=True))

        return open_exemptions(self._ask(get), self._keys, self._needed())

    def _needed(self) -> TenantSealer:
        if self._sealer is None:
            raise ConfigError("exemptions: the encryption_key is needed")
        return self._sealer

    def counts(self, days: int) -> dict[tuple[str, str, str], int]:
        """Sums over the last `days` by (rule, mode, what)."""
        out: Counter[tuple[str, str, str]] = Counter()
        today = datetime.now(UTC).timestamp()
        for n in range(days):
            key = self._keys.counts(day_of(today - 86_400 * n))
            for name, value in self._ask(lambda client, key=key: client.hgetall(key)).items():
                rule, mode, what = name.decode().split("|", 2)
                out[rule, mode, what] += int(value)
        return dict(out)

    def examples(self, rule: str) -> list[bytes]:
        """The sealed examples of a rule, the newest first."""
        return [
            bytes(value)
            for value in self._ask(lambda client: client.lrange(self._keys.examples(rule), 0, -1))
        ]

    def events(self, most: int = 50) -> list[dict[str, str]]:
        """The latest events, the newest first."""
        found = self._ask(lambda client: client.xrevrange(self._keys.events, count=most))
        return [
            {"id": identifier.decode(), **{k.decode(): v.decode() for k, v in fields.items()}}
            for identifier, fields in found
        ]

    def _one(self, identifier: str) -> Exemption:
        value = self._ask(lambda client: client.get(self._keys.exemption(identifier)))
        if value is None:
            raise ConfigError(f"exemption {identifier}: this tenant has none of that id")
        opened = open_exemptions({identifier: value}, self._keys, self._needed()).opened
        if not opened:
            raise ConfigError(f"exemption {identifier}: it wasn't sealed with this encryption_key")
        return opened[0]

    def _write(self, exemption: Exemption, event: str, by: str) -> None:
        key = self._keys.exemption(exemption.id)
        sealed = self._needed().seal(exemption.to_json().encode(), key=key.encode())
        fields = {
            "event": event,
            "id": exemption.id,
            "rule": exemption.rule,
            "by": by,
            "reason": exemption.reason,
            "until": str(int(exemption.until)),
        }

        def run(pipe: Any) -> None:
            pipe.set(key, sealed, exat=int(exemption.until) + 1)
            pipe.zadd(self._keys.index, {exemption.id: exemption.until})
            add_event(pipe, self._keys, fields)

        self._transaction(run)

    def _transaction(self, run: Any) -> None:
        def commit(client: Any) -> None:
            pipe = client.pipeline(transaction=True)
            run(pipe)
            pipe.execute()

        self._ask(commit)

    def _ask(self, call: Any) -> Any:
        try:
            return self._nodes.ask(self._keys.index, call)
        except (redis.RedisError, OSError) as error:
            raise EdgeError(f"redis: {type(error).__name__}") from None


def new_id() -> str:
    """An exemption's id: ten letters and digits."""
    return secrets.token_hex(5)
