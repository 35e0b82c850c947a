"""The guard's data of one tenant in Redis: names of keys, sealed exemptions, events.

An exemption is sealed under the tenant's key for its own place in Redis (AES-256-GCM). Whoever can write to Redis but
lacks the key can't make, change or move one: a value that doesn't open counts for nothing and is reported.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tenantgate.guard.core.exemptions import Exemption, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.store.sealing import TenantSealer
    from tenantgate.tenant import TenantId

__all__ = ["Keys", "OpenedExemptions", "add_event", "day_of", "open_exemptions"]

_EVENTS: Final = 10_000  # of a tenant


@dataclass(frozen=True, slots=True)
class Keys:
    """The names in Redis of one tenant; in braces the hash tag of Redis Cluster."""

    tenant: TenantId

    @property
    def base(self) -> str:
        """The beginning of all of them."""
        return f"tg:guard:1:{{{self.tenant.slug}}}:"

    @property
    def index(self) -> str:
        """The ids of exemptions by when they end: a sorted set."""
        return f"{self.base}exemptions"

    def exemption(self, identifier: str) -> str:
        """One exemption: a string, sealed, that expires with it."""
        return f"{self.base}exemption:{identifier}"

    def counts(self, day: str) -> str:
        """Counts of a day (``20260131``): a hash of ``rule|mode|what``."""
        return f"{self.base}counts:{day}"

    def examples(self, rule: str) -> str:
        """The latest examples of what a rule in alert found: a list, sealed."""
        return f"{self.base}examples:{rule}"

    @property
    def events(self) -> str:
        """Events of exemptions and of blocked requests: a stream."""
        return f"{self.base}events"


@dataclass(frozen=True, slots=True)
class OpenedExemptions:
    """Stored exemptions: those that the tenant's key has sealed, and the ids of the others."""

    opened: tuple[Exemption, ...]
    refused: tuple[str, ...]


def open_exemptions(stored: Mapping[str, bytes | None], keys: Keys, sealer: TenantSealer) -> OpenedExemptions:
    """Open exemptions by id; one that expired meanwhile has no value."""
    opened, refused = [], []
    for name, value in stored.items():
        if value is None:
            continue
        plain = sealer.open(value, key=keys.exemption(name).encode())
        exemption = None if plain is None else read(plain)
        if exemption is None or exemption.id != name:
            refused.append(name)
        else:
            opened.append(exemption)
    return OpenedExemptions(tuple(opened), tuple(refused))


def add_event(pipe: Any, keys: Keys, fields: dict[str, str]) -> None:
    """Add an event to a pipeline; beyond a bound the oldest go."""
    pipe.xadd(keys.events, {**fields, "at": str(int(time.time()))}, maxlen=_EVENTS, approximate=True)


def day_of(seconds: float) -> str:
    """The day of a Unix time, as counts are kept by (``20260131``, UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d")
