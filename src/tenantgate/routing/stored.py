"""Routing's data in Redis: names of keys, sealed records.

All of it is sealed under a key of the gateway for its own place in Redis (AES-256-GCM). Whoever can write to Redis but
lacks the key can't drain a target, open a circuit or close one: what doesn't open counts for nothing and is reported.
The health of a deployment belongs to all tenants that share it, so its key names no tenant.
"""

from __future__ import annotations

import time
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import redis

from tenantgate.routing.core.switches import Switch, read_switch
from tenantgate.store.sealing import GatewaySealer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "EVENTS",
    "INDEX",
    "SWITCHES",
    "add_event",
    "health_key",
    "open_switches",
    "probe_key",
    "replace_script",
    "seal_switch",
    "sealer",
    "switch_field",
]

_BASE: Final = "tg:routing:1:{gateway}:"  # in braces the hash tag of Redis Cluster
INDEX: Final = f"{_BASE}index"
"""Digests of deployments by when their health expires: a sorted set."""
SWITCHES: Final = f"{_BASE}switches"
"""Switches by a digest of what they are about: a hash of sealed records."""
EVENTS: Final = f"{_BASE}events"
"""What was drained and restored, and which credentials were refused: a stream."""

_MOST_EVENTS: Final = 10_000


def sealer(encryption_key: str) -> GatewaySealer:
    """The keys of routing."""
    return GatewaySealer(encryption_key, "routing")


def health_key(digest: str) -> str:
    """A deployment's health: a string, sealed, that expires."""
    return f"{_BASE}health:{digest}"


def probe_key(digest: str) -> str:
    """Which process may try a deployment whose circuit is half open: a string, sealed, that expires."""
    return f"{_BASE}probe:{digest}"


def switch_field(keys: GatewaySealer, scope: str, tenant: str | None) -> str:
    """Field of a switch: one for each scope and tenant."""
    about = f"{'*' if tenant is None else '=' + tenant}\0{scope}"
    return keys.name(b"switch\0" + about.encode("utf-8", "surrogatepass"))


def seal_switch(keys: GatewaySealer, field: str, switch: Switch) -> bytes:
    """The switch for its place in Redis."""
    return keys.seal(switch.to_json().encode("ascii"), key=_place(field))


def open_switches(
    stored: Mapping[bytes, bytes], keys: GatewaySealer
) -> tuple[dict[str, Switch], tuple[str, ...]]:
    """Switches by field, and the fields whose value the key didn't seal."""
    opened: dict[str, Switch] = {}
    refused: list[str] = []
    for raw, value in stored.items():
        field = raw.decode("utf-8", "replace")
        plain = keys.open(value, key=_place(field))
        switch = None if plain is None else read_switch(plain)
        if switch is None or field != switch_field(keys, switch.scope, switch.tenant):
            refused.append(field)
        else:
            opened[field] = switch
    return opened, tuple(refused)


def add_event(pipe: Any, fields: dict[str, str]) -> None:
    """Add an event to a pipeline; beyond a bound the oldest go."""
    pipe.xadd(EVENTS, {**fields, "at": str(int(time.time()))}, maxlen=_MOST_EVENTS, approximate=True)


@cache
def replace_script() -> Any:
    """The script that replaces a record if it is the one that was read."""
    text = resources.files("tenantgate.routing").joinpath("redis_scripts", "replace.lua").read_text("utf-8")
    # The client never connects: a script only needs an encoding.
    return redis.Redis().register_script(text)


def _place(field: str) -> bytes:
    return f"{SWITCHES}\0{field}".encode()
