"""A tenant's issued keys in a Kong: what has to come and go there, with all else left as it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tenantgate.apply.core.entities import Entity, State, same
from tenantgate.apply.core.plan import Plan
from tenantgate.config.names import ISSUED_TAG, consumer_name
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

__all__ = ["key_plan"]

_KIND = "keyauth_credentials"


def key_plan(current: State, tenant: TenantId, credentials: Iterable[Mapping[str, Any]]) -> Plan:
    """The plan for a Kong that has `current`.

    Args:
        current: all that Kong has.
        tenant: whose keys.
        credentials: those that its consumer shall have, as a kong.yml has them. Credentials that were not issued stay.

    Raises:
        ConfigError: Kong has no consumer for the tenant.
    """
    name = consumer_name(str(tenant))
    owner = next(
        (e for e in current.values() if e.kind == "consumers" and e.fields.get("username") == name), None
    )
    if owner is None:
        raise ConfigError(f"Kong has no consumer {name}: `tenantgate apply` creates it, and its keys")
    wanted = {
        str(item["id"]): Entity(
            kind=_KIND,
            id=str(item["id"]),
            fields={**{k: v for k, v in item.items() if k != "id"}, "consumer": owner.id},
        )
        for item in credentials
    }
    there = {
        e.id: e
        for e in current.values()
        if e.kind == _KIND
        and e.fields.get("consumer") == owner.id
        and ISSUED_TAG in (e.fields.get("tags") or ())
    }
    gone = [e for e in there.values() if e.id not in wanted]
    left = {e.id for e in gone}
    kept = [e for e in current.values() if e.kind != _KIND or (e.id not in left and e.id not in wanted)]
    return Plan(
        admit=tuple(e for e in wanted.values() if e.id not in there or not same(e, there[e.id])),
        withdraw=tuple(gone),
        wanted=(*kept, *wanted.values()),
        known=frozenset(id_ for _, id_ in current),
    )
