"""The store of the policy directory that an address names."""

from __future__ import annotations

from pathlib import Path

from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import PolicyStore

__all__ = ["open_store"]


def open_store(url: str | None, *, path: Path, encryption_key: str) -> PolicyStore:
    """The store at `url`, which all nodes share; without one the file at `path`.

    Args:
        url: ``redis://``, ``rediss://``, ``postgres://`` or ``postgresql://``; may hold a password.
        path: the node's file.
        encryption_key: the gateway's, from which the key is derived that authenticates what Redis holds.

    Raises:
        ConfigError: the address can't be read; never quotes it.
    """
    if url is None:
        from tenantgate.policy.sqlite_store import SqlitePolicyStore

        return SqlitePolicyStore(path)
    if url.startswith(("postgres://", "postgresql://")):
        from tenantgate.policy.postgres_store import PostgresPolicyStore

        return PostgresPolicyStore(url)
    if not url.startswith(("redis://", "rediss://")):
        raise ConfigError("policy store: its address must begin with redis://, rediss:// or postgresql://")
    from tenantgate.policy.redis_store import RedisPolicyStore
    from tenantgate.store.url import redis_config

    return RedisPolicyStore(redis_config(url), encryption_key)
