"""Manifests: all that the rest of the project must know of a feature, as data in the feature's `manifest` module.

The command line, the configuration, the plugin server's ``--dump`` and the documentation's generator read them and
know no feature by name. Importing a manifest must stay cheap: what needs a library is named by a `Reference`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from tenantgate.alert_config import Receiver
from tenantgate.fields import problems

__all__ = [
    "Command",
    "Feature",
    "GatewaySection",
    "Journal",
    "PluginManifest",
    "Reference",
    "RouteSettings",
    "resolve",
]

C = TypeVar("C")

Reference: TypeAlias = str
"""``package.module:name``: something that is imported when it is used for the first time."""


def resolve(reference: Reference) -> Any:
    """What `reference` names."""
    return pkgutil.resolve_name(reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of ``tenantgate``."""

    name: str
    help: str
    """One line for ``tenantgate --help``."""
    adds: Reference
    """A function that adds the command's arguments and its handler (``set_defaults(func=…)``) to a parser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """Settings that plugins take from ``gateway`` in tenants.yaml and from their route. None: the plugin's default."""

    route: str = ""
    """The route's name."""
    redis: Mapping[str, Any] = field(default_factory=dict)
    """As the fields of `tenantgate.store.config.RedisConfig`."""
    encryption_key: str | None = None
    correlation_header: str | None = None
    strict_requests: bool | None = None
    upstream_headers: tuple[str, ...] | None = None
    rate_limit_redis: Mapping[str, Any] = field(default_factory=dict)
    """As `redis`, for the counters of rate limits."""
    rate_limit_policy: str | None = None
    """redis or local."""
    receivers: tuple[Receiver, ...] = ()
    """Receivers of alerts."""
    own: Any = None
    """The feature's own section of ``gateway``, an object of its class; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySection:
    """A feature's section of ``gateway`` in tenants.yaml."""

    name: str
    config_class: type
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A file of the stock file-log plugin, in place of ``gateway.access_log``, where a route has the plugin."""

    path: Callable[[Any], str]
    """The file's path, from the feature's section of ``gateway``."""
    fields: Reference
    """A function of the correlation header's name that gives ``custom_fields_by_lua``."""
    instead: str
    """Advice for an operator who has given ``gateway.access_log``, too."""


def _rejects(config: Any) -> bool:
    return bool(getattr(config, "on_error", "pass") == "reject")


def _never(_config: Any) -> bool:
    return False


def _nothing(_config: Any) -> Mapping[str, Mapping[str, Any]]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginManifest(Generic[C]):
    """One plugin. Functions of a configuration take an object of `config_class`."""

    name: str
    """The plugin's name in Kong, and its file's."""
    section: str
    """The key in tenants.yaml, under ``defaults``, a tenant or a model."""
    description: str
    """One sentence for the documentation of `section`."""
    priority: int
    """A higher one runs earlier in Kong."""
    phases: tuple[str, ...]
    """Kong's phases, each a method of the plugin's service."""
    config_class: type[C]
    service: Reference
    """A class whose objects do the work of the phases: made from a configuration, with a method for each phase."""
    filled: Mapping[str, Callable[[RouteSettings], Any]] = field(default_factory=dict)
    """Fields that the renderer sets and an operator can't, in the order of the rendered file."""
    prices: tuple[str, ...] = ()
    """Fields that hold prices: all of them are the model's, unless the section has its own."""
    price_lists_field: str | None = None
    """The field that takes the price lists of the model's targets, as JSON by the targets' ids."""
    gates_field: str | None = None
    """The field that takes the names of the route's other plugins whose `gate` is closed."""
    gate: Callable[[C], bool] = _never
    """Whether a reply may only be given out if this plugin has let the request pass."""
    brings: Callable[[C], Mapping[str, Mapping[str, Any]]] = _nothing
    """By section the fields that other plugins of the same route must have."""
    needs_replies: Callable[[C], bool] = _never
    """Whether replies are read from Kong's log: it then holds ai-proxy's payloads and the finish reason of streams."""
    rejects: Callable[[C], bool] = _rejects
    """Whether a request that the plugin fails on is answered with 503; else it goes on without the plugin."""
    closing: Mapping[str, Reference] = field(default_factory=dict)
    """By phase the Lua that refuses what the plugin didn't let pass, for routes where it `rejects`."""
    own_deadline: bool = False
    """Whether the plugin's work ends at ``deadline_ms`` by itself, so that its end is no failure of the phase."""
    inspects: Reference | None = None
    """A function of a configuration like its own ``problems``, for what takes a library or a file to find: it is called
    where tenants.yaml is checked, and not for a plugin's instance."""
    journal: Journal | None = None
    of_tools: bool = False
    """Whether it is a stage of calls of MCP tools, too, by the settings of the tenant."""
    attachable: bool = True
    """Whether it is a plugin of Kong's by itself; else a stage of the engine only."""
    in_file: bool = True
    """Whether tenants.yaml has its section; else other settings say what it does."""

    @property
    def hidden(self) -> frozenset[str]:
        """Fields that the section in tenants.yaml doesn't have, since the renderer sets them."""
        others = (self.gates_field, self.price_lists_field)
        return frozenset(self.filled).union(name for name in others if name)

    def fill(self, settings: RouteSettings) -> dict[str, Any]:
        """The values of `filled`; those that are None are left to the plugin's defaults."""
        return {name: value for name, take in self.filled.items() if (value := take(settings)) is not None}

    def problems(self, config: C) -> Iterator[tuple[str, str]]:
        """Each problem of a configuration whose fields are right each by itself: the field's path, and the problem."""
        yield from problems(config)
        if self.inspects is not None:
            yield from resolve(self.inspects)(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature's `manifest` module calls ``FEATURE``."""

    plugins: tuple[PluginManifest[Any], ...] = ()
    gateway: GatewaySection | None = None
    commands: tuple[Command, ...] = ()
    servers: Reference | None = None
    """A function that compiles a tenant's MCP servers (`tenantgate.mcp.compiling.compiled`)."""
    documents: Mapping[str, Reference] = field(default_factory=dict)
    """Generated JSON files in docs/, by name, and the functions that give them."""
