"""``tenantgate drift``: what isn't in Kong and in the policy store as it was applied."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tenantgate.apply.commands import carried_over, file_arguments, kong_arguments, site_of
from tenantgate.apply.core.drift import drift as differences_of
from tenantgate.apply.core.drift import strangers
from tenantgate.apply.core.entities import from_tree
from tenantgate.apply.running import plan_of
from tenantgate.apply.targets import connect
from tenantgate.errors import ConfigError
from tenantgate.policy.core.difference import differences
from tenantgate.policy.core.ports import PolicyStore
from tenantgate.tenant import TenantId

__all__ = ["drift"]


def drift(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``drift``."""
    file_arguments(parser)
    kong_arguments(parser)
    parser.set_defaults(func=_drift)


def _drift(args: argparse.Namespace) -> int:
    names = ("given", "file", "state_dir", "policy_path", "mock_url", "redis")
    site = site_of(**{name: getattr(args, name) for name in names})
    wanted = from_tree(site.entities())
    targets = [connect(url) for url in (*args.admin_url, *site.admin_urls)]
    if not targets:
        raise ConfigError("needs a Kong: --admin-url or --state-dir")
    records = site.records()
    store = site.store()
    found = 0
    try:
        for line in _policies(store, carried_over(site, store, records)):
            print(f"policies: {line}")
            found += 1
    finally:
        store.close()
    for target in targets:
        planned = plan_of(target, wanted)
        for line in differences_of(planned.plan, planned.current, planned.schemas):
            print(f"{target.name}: {line}")
            found += 1
        for line in strangers(planned.plan, planned.current):
            print(f"{target.name}: {line}")
    print(
        f"{found} difference{'s'[: found != 1]}: `tenantgate apply` mends what is changed, missing or extra"
        if found
        else "no drift"
    )
    return int(found > 0)


def _policies(store: PolicyStore, records: dict[str, bytes]) -> Iterator[str]:
    """What tenants.yaml says otherwise than the newest version in the store, and what the store has lost."""
    head = store.head()
    index = store.index(head)
    old: dict[str, bytes] = {}
    for tenant, hashed in index.items():
        body = store.contents([hashed]).get(hashed)
        if body is None:
            yield f"{TenantId(tenant).slug}: the store has lost its record"
        else:
            old[tenant] = body
    lost = index.keys() - old.keys()
    yield from differences(old, {tenant: record for tenant, record in records.items() if tenant not in lost})
