"""What a loaded configuration holds: Kong's entities, with ids as Kong gives them to plugins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Consumer", "Credential", "GatewayConfig", "PluginConfig", "Route", "Service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An upstream; time-outs in milliseconds."""

    id: str
    name: str
    protocol: str
    host: str
    port: int
    path: str | None
    connect_timeout: int
    read_timeout: int
    write_timeout: int
    entity: Mapping[str, Any]
    """The whole entity as plugins and logs see it."""

    @property
    def timeouts(self) -> tuple[int, int, int]:
        """For connecting, writing and reading."""
        return self.connect_timeout, self.write_timeout, self.read_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What leads to a service."""

    id: str
    name: str
    service: Service
    paths: tuple[str, ...]
    hosts: tuple[str, ...]
    methods: frozenset[str]
    headers: Mapping[str, tuple[str, ...]]
    strip_path: bool
    preserve_host: bool
    regex_priority: int
    response_buffering: bool
    entity: Mapping[str, Any]
    regexes: Mapping[str, re.Pattern[str]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Who calls."""

    id: str
    username: str | None
    custom_id: str | None
    groups: frozenset[str]
    entity: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key of a consumer; never printed."""

    id: str
    consumer: Consumer
    created_at: int
    key: str = field(repr=False)
    tags: tuple[str, ...] = ()

    @property
    def entity(self) -> dict[str, Any]:
        """As ``kong.client.get_credential`` gives it."""
        owner = {"id": self.consumer.id}
        known = {"id": self.id, "key": self.key, "consumer": owner, "created_at": self.created_at}
        return {**known, "tags": list(self.tags)} if self.tags else known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PluginConfig:
    """One plugin entity; `config` is resolved and has its defaults, so it may hold secrets."""

    id: str
    name: str
    route_id: str | None
    service_id: str | None
    consumer_id: str | None
    config: dict[str, Any] = field(repr=False)
    where: str
    """Its place in the file, for messages."""

    @property
    def scope(self) -> tuple[str | None, str | None, str | None]:
        """(route, service, consumer), None where it applies to all."""
        return (self.route_id, self.service_id, self.consumer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything in the file, checked."""

    routes: tuple[Route, ...]
    services: tuple[Service, ...]
    consumers: Mapping[str, Consumer]
    """By id."""
    credentials: Mapping[str, Credential] = field(repr=False)
    """By key."""
    plugins: tuple[PluginConfig, ...]
