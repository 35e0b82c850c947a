"""What one kong.yml has that another hasn't, by entity and field. Values of secrets are never shown."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from tenantgate import features
from tenantgate.config import plain_yaml
from tenantgate.errors import ConfigError

__all__ = ["compare", "parse", "payload_leaks", "unified"]

Json = dict[str, Any]
_SECRET: Final = ("key", "header_value", "param_value", "password", "encryption_key", "secret")
_SHOWN: Final = 60
_PAYLOAD: Final = "ai.proxy.payload"
_DECIDES: Final = "tenantgate-target"


def parse(text: str, *, name: str) -> Json:
    """The tree of a kong.yml."""
    try:
        tree = plain_yaml.read(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{name}:{mark.line + 1 if mark else 1}: isn't YAML") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: isn't a kong.yml")
    return tree


def compare(old: Json, new: Json) -> list[str]:
    """Lines ``+ entity``, ``- entity`` and ``~ entity: field: before -> after``, in order of the entities."""
    before, after = dict(_entities(old)), dict(_entities(new))
    out = []
    for entity in sorted(before.keys() | after.keys()):
        if entity not in before:
            out.append(f"+ {entity}")
        elif entity not in after:
            out.append(f"- {entity}")
        else:
            out += [f"~ {entity}: {change}" for change in _changes(before[entity], after[entity])]
    return out


def unified(old: str, new: str, *, name: str) -> list[str]:
    """The differences of the texts, as `diff -u` has them, for eyes that may see all of both."""
    lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
    return list(difflib.unified_diff(*lines, fromfile=name, tofile="rendered"))


def payload_leaks(tree: Json) -> list[str]:
    """Stock log plugins that would write the prompts and replies which ai-proxy puts into Kong's log."""
    plugins = list(_plugins(tree))
    # With the engine a tenant's policy decides for each request whether ai-proxy puts them there.
    exposed = {
        scope
        for p, scope in plugins
        if p.get("name") == _DECIDES or (p.get("name") == "ai-proxy" and _flag(p, "logging", "log_payloads"))
    }
    if not exposed:
        return []
    ours = {plugin.name for plugin in features.plugins()}  # the audit log redacts what it writes
    services = {f"service {s['name']}" for s in _list(tree, "services") if _has(s, exposed)}
    routes = {f"route {r.get('name')}" for r, service in _routes(tree) if f"service {service}" in exposed}
    out = []
    for plugin, scope in plugins:
        name = str(plugin.get("name"))
        writes = (name.endswith("-log") and name not in ours) or name in ("syslog", "loggly")
        reaches = scope == "all" or scope.startswith("consumer ") or scope in exposed | services | routes
        stripped = _at(plugin, "config", "custom_fields_by_lua").get(_PAYLOAD) == "return nil"
        if writes and reaches and not stripped:
            out.append(
                f"{name} of {scope} writes prompts and replies; give it "
                f'custom_fields_by_lua: {{"{_PAYLOAD}": "return nil"}}'
            )
    return out


def _has(service: Json, exposed: set[str]) -> bool:
    return any(f"route {route.get('name')}" in exposed for route in _list(service, "routes"))


def _flag(plugin: Json, *path: str) -> bool:
    return bool(_at(plugin, "config", *path[:-1]).get(path[-1]))


def _at(value: Any, *path: str) -> Json:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _list(tree: Json, name: str) -> list[Json]:
    found = tree.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ConfigError(f"{name}: must be a list of mappings")
    return found


def _entities(tree: Json) -> Iterator[tuple[str, Any]]:
    for service in _list(tree, "services"):
        yield f"service {service.get('name')}", _without(service, "name", "routes", "plugins")
    for route, service_name in _routes(tree):
        yield f"route {route.get('name')}", {**_without(route, "name", "plugins"), "service": service_name}
    for consumer in _list(tree, "consumers"):
        yield f"consumer {consumer.get('username')}", _without(consumer, "username", "plugins")
    for plugin, scope in _plugins(tree):
        yield f"{plugin.get('name')} of {scope}", _without(plugin, "name", "consumer", "route", "service")


def _routes(tree: Json) -> Iterator[tuple[Json, Any]]:
    for service in _list(tree, "services"):
        for route in _list(service, "routes"):
            yield route, service.get("name")
    for route in _list(tree, "routes"):
        yield route, route.get("service")


def _plugins(tree: Json) -> Iterator[tuple[Json, str]]:
    for kind in ("services", "consumers"):
        for owner in _list(tree, kind):
            name = owner.get("name") or owner.get("username")
            for plugin in _list(owner, "plugins"):
                yield plugin, _scope({**plugin, kind[:-1]: name})
    for route, _ in _routes(tree):
        for plugin in _list(route, "plugins"):
            yield plugin, _scope({**plugin, "route": route.get("name")})
    for plugin in _list(tree, "plugins"):
        yield plugin, _scope(plugin)


def _scope(plugin: Json) -> str:
    return (
        ", ".join(f"{kind} {plugin[kind]}" for kind in ("consumer", "service", "route") if plugin.get(kind))
        or "all"
    )


def _without(entity: Json, *names: str) -> Json:
    return {k: v for k, v in entity.items() if k not in names}


def _changes(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
    elif isinstance(old, list | type(None)) and isinstance(new, list | type(None)):
        # Their order says nothing in Kong, except for Lua, which never moves alone.
        more, less = Counter(map(repr, new or ())), Counter(map(repr, old or ()))
        if more != less:
            yield f"{where}: {(more - less).total()} added, {(less - more).total()} removed"
    elif where.rpartition(".")[2] in _SECRET:
        yield f"{where}: changed"
    else:
        yield f"{where}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    text = "none" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
