"""The store that tenants.yaml names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tenantgate.config import deck_variables
from tenantgate.config.model import Gateway
from tenantgate.policy import stores
from tenantgate.policy.core.ports import PolicyStore

__all__ = ["open_store"]


def open_store(gateway: Gateway, environ: Mapping[str, str]) -> PolicyStore:
    """The store of ``gateway.policy``: the one of all nodes, else this node's file.

    Raises:
        ConfigError: the environment lacks a secret, or the URL can't be read; never quotes it.
    """
    policy, url, key = gateway.policy, None, ""
    if policy.store is not None:
        url = deck_variables.value(policy.store, environ, "gateway.policy.store")
        if url.startswith("redis"):  # what lies in Redis is authenticated
            key = deck_variables.value(gateway.encryption_key, environ, "gateway.encryption_key")
    return stores.open_store(url, path=Path(policy.path), encryption_key=key)
