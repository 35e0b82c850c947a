"""The mappings of tenants.yaml, with the features' sections in their places.

The loader, the JSON Schema and the documentation's tables walk them through `entries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from tenantgate import features
from tenantgate.config import model, redis_model
from tenantgate.fields import Field, FieldSpec, Record, fields_of
from tenantgate.manifest import GatewaySection, PluginManifest, RouteSettings

__all__ = ["Entry", "Section", "entries", "gateway_sections", "own_settings", "redis_settings", "settings"]


_LEVELS: Final = (model.Defaults, model.Tenant, model.Model)


@dataclass(frozen=True, slots=True)
class Section:
    """A plugin's section; `fields` are those that an operator may set."""

    plugin: PluginManifest[Any]
    fields: Mapping[str, Field]


Entry: TypeAlias = Field | Section


def entries(cls: type) -> Mapping[str, Entry]:
    """What the mapping of a class may hold, by key: the class's fields, and sections in place of `model.SECTIONS`."""
    return _entries(cls, features.FEATURES)


@cache
def _entries(cls: type, _packages: tuple[str, ...]) -> Mapping[str, Entry]:
    out: dict[str, Entry] = {}
    for name, f in fields_of(cls).items():
        if name == model.SECTIONS and cls is model.Gateway:
            out |= {f.name: f for f in gateway_sections()}
        elif name == model.SECTIONS and cls in _LEVELS:
            out |= {p.section: _section(p) for p in features.sections()}
        else:
            out[name] = f
    return out


def _section(plugin: PluginManifest[Any]) -> Section:
    known = fields_of(plugin.config_class)
    return Section(plugin, {name: f for name, f in known.items() if name not in plugin.hidden})


def _gateway_field(section: GatewaySection) -> Field:
    cls = section.config_class
    return Field(section.name, FieldSpec(section.description), Record(cls), default=cls(), optional=False)


def gateway_sections() -> list[Field]:
    """The features' sections of ``gateway``, as fields."""
    return [_gateway_field(f.gateway) for f in features.features() if f.gateway is not None]


def own_settings(gateway: model.Gateway, plugin: PluginManifest[Any]) -> Any:
    """The section of ``gateway`` that belongs to the plugin's feature; None where it has none."""
    for feature in features.features():
        if plugin in feature.plugins and feature.gateway is not None:
            return gateway.plugins.get(feature.gateway.name) or feature.gateway.config_class()
    return None


def redis_settings(redis: redis_model.RateLimitRedis, timeout_ms: int) -> dict[str, Any]:
    """A Redis or a cluster, as plugins take it; where a value is None, they have their default."""
    nodes = redis.cluster_nodes if isinstance(redis, redis_model.Redis) else ()
    where: dict[str, Any] = {"host": redis.host, "port": redis.port}
    if nodes:
        where = {"cluster_nodes": [{"ip": node.ip, "port": node.port} for node in nodes]}
    return {
        **where,
        "database": redis.database,
        "username": redis.username,
        "password": redis.password,
        "ssl": redis.ssl,
        "ssl_verify": redis.ssl_verify,
        "timeout_ms": timeout_ms,
    }


def settings(gateway: model.Gateway, route: str, plugin: PluginManifest[Any]) -> RouteSettings:
    """What the plugin takes from the gateway and the route called `route`."""
    return RouteSettings(
        route=route,
        redis=redis_settings(gateway.redis, gateway.redis.plugin_timeout_ms),
        encryption_key=gateway.encryption_key,
        correlation_header=gateway.correlation_header,
        strict_requests=None if gateway.strict_requests else False,
        upstream_headers=tuple(sorted(gateway.upstream_headers, key=str.lower)) or None,
        receivers=gateway.alerts.receivers,
        own=own_settings(gateway, plugin),
    )
