"""The store that tenants.yaml names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tenantgate.config import deck_variables
from tenantgate.config.model import Gateway
from tenantgate.policy.core.ports import PolicyStore

__all__ = ["open_store"]


def open_store(gateway: Gateway, environ: Mapping[str, str]) -> PolicyStore:
    """The store of ``gateway.policy``: the one of all nodes, else this node's file.

    Raises:
        ConfigError: the environment lacks a secret, or the URL can't be read; never quotes it.
    """
    if gateway.policy.store is None:
        from tenantgate.policy.sqlite_store import SqlitePolicyStore

        return SqlitePolicyStore(Path(gateway.policy.path))
    url = deck_variables.value(gateway.policy.store, environ, "gateway.policy.store")
    if url.startswith("postgres"):
        from tenantgate.policy.postgres_store import PostgresPolicyStore

        return PostgresPolicyStore(url)
    from tenantgate.policy.redis_store import RedisPolicyStore
    from tenantgate.store.url import redis_config

    key = deck_variables.value(gateway.encryption_key, environ, "gateway.encryption_key")
    return RedisPolicyStore(redis_config(url), key)
