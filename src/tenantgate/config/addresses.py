"""The addresses that a configuration makes the gateway ask, each with the place where it stands. Pure.

Redis and the policy store aren't among them: they belong to the installation as Kong does, and hold what is
encrypted or no tenant's text. `installed` lists them for rules of a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from tenantgate import features
from tenantgate.config import catalog
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.model import Endpoint, Model, Tenant, TenantsFile
from tenantgate.config.node_reader import join
from tenantgate.config.provider_options import google_host
from tenantgate.config.providers import MOCK, PROVIDERS
from tenantgate.config.redis_model import RateLimitRedis, Redis
from tenantgate.errors import ConfigError
from tenantgate.fields import Field, Many, Record, Table, fields_of

__all__ = ["Asked", "Installed", "Origin", "asked", "endpoint_url", "installed", "is_mock", "origin"]

_POSTGRES: Final = 5432
_REDIS: Final = 6379


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a URL asks."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        usual = self.port == {"http": 80, "https": 443}.get(self.scheme)
        return f"{self.scheme}://{self.host}" + ("" if usual else f":{self.port}")


@dataclass(frozen=True, slots=True)
class Asked:
    """An address of a configuration."""

    tenant: int | None
    """Number of the tenant in the file, to whose list it belongs, too; None: of the gateway."""
    path: str
    """Of the field, from the tenant's on, or from the file's."""
    url: str


@dataclass(frozen=True, slots=True)
class Installed:
    """A service of the installation itself: Redis, PostgreSQL."""

    path: str
    host: str
    port: int


def origin(url: str) -> Origin:
    """Whom a URL asks, for a URL that says so plainly.

    Programs disagree about what is unusual in a URL, so it must be written as the URL standard writes it.

    Raises:
        ConfigError: it is no URL of HTTP, has a user name, or means something else than it seems to.
    """
    import ada_url

    try:
        found = ada_url.URL(url)
    except ValueError:
        raise ConfigError("isn't a URL") from None
    scheme = found.protocol.removesuffix(":")
    if scheme not in ("http", "https"):
        raise ConfigError("isn't an address of http or https")
    if found.username or found.password:
        raise ConfigError("has a user name or a password in it")
    port = int(found.port) if found.port else {"http": 80, "https": 443}[scheme]
    made = Origin(scheme, found.hostname, port)
    if not f"{url}/".startswith((f"{made}/", f"{made}?")):
        raise ConfigError(f"is read as {made}; write it so")
    if made.host.endswith("."):
        raise ConfigError("has a dot at the end of its host")
    return made


def is_mock(endpoint: Endpoint) -> bool:
    """Whether its address is the mock provider's, which the command line says."""
    return endpoint.provider == MOCK and endpoint.upstream_url is None


def endpoint_url(endpoint: Endpoint) -> str:
    """The URL that a model is asked at, or one of the same host where Kong's driver knows the path."""
    if endpoint.upstream_url is not None:
        return endpoint.upstream_url
    provider = PROVIDERS[endpoint.provider or ""]
    form = provider.upstream_url or provider.origin or ""
    if "{" not in form:  # as most are
        return form
    values = {name: getattr(endpoint, name) for name in fields_of(type(endpoint))}
    return form.format(**values, host=google_host(endpoint))


def asked(file: TenantsFile) -> Iterator[Asked]:
    """Every address but the mock provider's, in the order of the file."""
    gateway = fields_of(type(file.gateway))
    alerts = file.gateway.alerts
    for at, url in _of_record(fields_of(type(alerts)), alerts):
        yield Asked(None, f"gateway.alerts.{at}", url)
    for section in catalog.gateway_sections():
        values = file.gateway.plugins.get(section.name)
        if section.name not in gateway and values is not None:
            for at, url in _of_record(fields_of(type(values)), values):
                yield Asked(None, f"gateway.{section.name}.{at}", url)
    for at, url in _of_sections(file.defaults.plugins):
        yield Asked(None, f"defaults.{at}", url)
    for i, tenant in enumerate(file.tenants):
        yield from _of_tenant(i, tenant)


def _of_tenant(i: int, tenant: Tenant) -> Iterator[Asked]:
    for k, server in enumerate(tenant.mcp):
        for at, url in _of_record(fields_of(type(server)), server):
            yield Asked(i, f"mcp[{k}].{at}", url)
    for at, url in _of_sections(tenant.plugins):
        yield Asked(i, at, url)
    for k, m in enumerate(tenant.models):
        for at, url in _of_sections(m.plugins):
            yield Asked(i, f"models[{k}].{at}", url)
        for at, endpoint in _endpoints(m):
            if is_mock(endpoint):
                continue
            place = f"models[{k}]{at}" + (".upstream_url" if endpoint.upstream_url is not None else "")
            yield Asked(i, place, endpoint_url(endpoint))
            yield from (Asked(i, f"models[{k}]{at}", url) for url in PROVIDERS[endpoint.provider or ""].also)


def _endpoints(m: Model) -> Iterator[tuple[str, Endpoint]]:
    if not m.targets:
        yield "", m
    for i, target in enumerate(m.targets):
        yield f".targets[{i}]", target


def _of_sections(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    known = features.by_section()
    for section, values in sections.items():
        for at, url in _of_record(fields_of(known[section].config_class), values):
            yield f"{section}.{at}", url


def _of_record(known: Mapping[str, Field], values: Any) -> Iterator[tuple[str, str]]:
    """Addresses in an object of a configuration class, or in a mapping as YAML has it."""
    for name, f in known.items():
        value = values.get(name) if isinstance(values, Mapping) else getattr(values, f.attribute)
        shape = f.shape.element if isinstance(f.shape, Many) else f.shape
        items = [(name, value)]
        if isinstance(shape, Table) and isinstance(value, Mapping):
            shape, items = shape.values, [(f"{name}.{key}", v) for key, v in value.items()]
        elif isinstance(value, list | tuple):
            items = [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        for at, item in items:
            if isinstance(shape, Record) and item is not None:
                yield from ((join(at, inner), url) for inner, url in _of_record(fields_of(shape.cls), item))
            elif f.spec.address and isinstance(item, str):
                yield at, item


def installed(file: TenantsFile) -> Iterator[Installed]:
    """Services of the installation itself; one whose address is a secret isn't known here."""
    gateway = file.gateway
    yield from _redis("gateway.redis", gateway.redis)
    if gateway.rate_limiting.redis is not None:
        yield from _redis("gateway.rate_limiting.redis", gateway.rate_limiting.redis)
    store = gateway.policy.store
    if store is not None and not placeholders.is_vault_reference(store):
        parts = urlsplit(store)
        usual = _POSTGRES if parts.scheme == "postgresql" else _REDIS
        yield Installed("gateway.policy.store", parts.hostname or "", parts.port or usual)


def _redis(path: str, redis: RateLimitRedis) -> Iterator[Installed]:
    if isinstance(redis, Redis) and redis.cluster_nodes:
        yield from (Installed(path, node.ip, node.port) for node in redis.cluster_nodes)
    else:
        yield Installed(path, redis.host, redis.port)
