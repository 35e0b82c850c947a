"""Tenantgate's plugins as the configuration knows them; a new plugin is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.cache.config import CacheConfig
from tenantgate.config.model import Gateway

__all__ = ["CATALOG", "CataloguedPlugin", "by_section"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguedPlugin:
    """A plugin, its section in tenants.yaml, and what it asks of its routes."""

    name: str
    """The plugin's name in Kong, and its file's."""
    section: str
    """The key in tenants.yaml, under `defaults`, a tenant or a model."""
    description: str
    config_class: type
    """Its configuration class, whose fields the section takes."""
    filled: Callable[[Gateway, str], Mapping[str, Any]]
    """The fields that the renderer sets, from the gateway's settings and the route's name."""
    needs_replies: bool = False
    """Whether it takes replies from Kong's log: ai-proxy's payloads, and the finish reason of streams."""


def _cache_fields(gateway: Gateway, route: str) -> Mapping[str, Any]:
    redis = gateway.redis
    return {
        "namespace": route,
        "encryption_key": gateway.encryption_key,
        "redis": {
            "host": redis.host, "port": redis.port, "database": redis.database,
            "username": redis.username, "password": redis.password,
            "ssl": redis.ssl, "ssl_verify": redis.ssl_verify, "timeout_ms": redis.plugin_timeout_ms,
        },
    }  # fmt: skip


CATALOG: Final = (
    CataloguedPlugin(
        name="tenant-semantic-cache",
        section="cache",
        description="The tenant-semantic-cache plugin.",
        config_class=CacheConfig,
        filled=_cache_fields,
        needs_replies=True,
    ),
)


def by_section() -> dict[str, CataloguedPlugin]:
    """The plugins by their section in tenants.yaml."""
    return {plugin.section: plugin for plugin in CATALOG}
