"""Load kong.yml (decK's format): every entity checked, whatever this host can't honour refused by its place."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.parse
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tenantgate.devhost import kong_schema, vault
from tenantgate.devhost.entities import Consumer, Credential, GatewayConfig, PluginConfig, Route, Service
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.errors import ConfigError

__all__ = ["load_text", "read"]

# kong/db/schema/others/declarative_config.lua: ids are made from the names in this namespace.
_NAMESPACE: Final = uuid.UUID("fd02801f-0957-4a15-a55a-c8d9606f30b5")
_PORTS: Final = {"http": 80, "https": 443}
_NAMED: Final = re.compile(
    r"(?<!\\)\(\?<(?=[A-Za-z_])"
)  # a named group in Rust, whose regexes Kong's router has
_TOP: Final = {
    "services",
    "routes",
    "consumers",
    "plugins",
    "keyauth_credentials",
    "acls",
    "certificates",
    "snis",
}
_IGNORED: Final = {"_format_version", "_transform", "_info", "_comment"}
_ROUTE: Final = {
    "name",
    "paths",
    "hosts",
    "methods",
    "headers",
    "strip_path",
    "preserve_host",
    "protocols",
    "tags",
    "regex_priority",
    "response_buffering",
    "request_buffering",
    "https_redirect_status_code",
    "path_handling",
    "id",
    "service",
    "plugins",
}
_SERVICE: Final = {
    "name",
    "url",
    "protocol",
    "host",
    "port",
    "path",
    "connect_timeout",
    "read_timeout",
    "write_timeout",
    "retries",
    "enabled",
    "tags",
    "id",
    "routes",
    "plugins",
}
_CONSUMER: Final = {"username", "custom_id", "tags", "id", "keyauth_credentials", "acls", "plugins"}
_PLUGIN: Final = {
    "name",
    "config",
    "enabled",
    "protocols",
    "tags",
    "id",
    "instance_name",
    "route",
    "service",
    "consumer",
}

Json = dict[str, Any]


def read(path: Path) -> str:
    """The text of a kong.yml."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def load_text(
    text: str,
    *,
    external: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    loaded: int = 0,
    files: Path | None = None,
) -> GatewayConfig:
    """Check a kong.yml.

    Args:
        text: the file's.
        external: by name the schemas of Python and Lua plugins.
        environ: what ``{vault://env/…}`` reads; None: the process's.
        loaded: how many plugin entities were loaded before; the new ones' numbers follow.
        files: the folder of the vault `file`; None: it isn't enabled.
    """
    try:
        tree = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
    except ValueError as error:
        raise ConfigError("kong.yml: not JSON") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"kong.yml:{mark.line + 1 if mark else 1}: not YAML") from error
    if not isinstance(tree, dict) or tree.get("_format_version") not in ("3.0", "2.1", "1.1"):
        raise ConfigError('kong.yml: must start with _format_version: "3.0"')
    return _Loader(external, os.environ if environ is None else environ, loaded, files).load(tree)


class _Loader:
    """One pass over the tree; entities refer to each other by name or id, as in Kong."""

    def __init__(
        self, external: Mapping[str, Any], environ: Mapping[str, str], loaded: int, files: Path | None
    ) -> None:
        self._loaded = loaded
        self._external = external
        self._environ = environ
        self._files = files
        self._services: dict[str, Service] = {}
        self._routes: dict[str, Route] = {}
        self._consumers: dict[str, Consumer] = {}
        self._credentials: dict[str, Credential] = {}
        self._plugins: list[PluginConfig] = []
        now = int(time.time())
        self._dates = {"created_at": now, "updated_at": now}

    def load(self, tree: Json) -> GatewayConfig:
        for name in tree:
            if name not in _TOP | _IGNORED:
                raise ConfigError(f"{name}: the embedded host doesn't know this entity")
        for i, item in enumerate(_list(tree, "services")):
            self._service(item, f"services[{i}]")
        for i, item in enumerate(_list(tree, "routes")):
            self._route(item, f"routes[{i}]", None)
        for i, item in enumerate(_list(tree, "certificates")):
            self._certificate(item, f"certificates[{i}]")
        groups = _groups(tree)
        for i, item in enumerate(_list(tree, "consumers")):
            self._consumer(item, f"consumers[{i}]", groups)
        for i, item in enumerate(_list(tree, "keyauth_credentials")):
            where = f"keyauth_credentials[{i}]"
            self._credential(item, where, self._find(self._consumers, item.get("consumer"), where))
        for i, item in enumerate(_list(tree, "plugins")):
            self._plugin(item, f"plugins[{i}]")
        self._check_doubles()
        return GatewayConfig(
            routes=_unique(self._routes),
            services=_unique(self._services),
            consumers={c.id: c for c in _unique(self._consumers)},
            credentials=self._credentials,
            plugins=tuple(self._plugins),
        )

    def _certificate(self, item: Json, where: str) -> None:
        """Its texts must be there; nothing else comes of it, since this host speaks no TLS with clients."""
        _known(item, {"id", "cert", "key", "tags", "snis"}, where)
        for name in ("cert", "key"):
            text = str(item.get(name))
            if text.startswith("{vault://"):
                text = self._resolve(text, f"{where}.{name}")
            if "-----BEGIN " not in text:
                raise ConfigError(f"{where}.{name}: invalid {'certificate' if name == 'cert' else 'key'}")

    def _check_doubles(self) -> None:
        # A scope holds a plugin once (kong/db/schema/entities/plugins.lua: a unique cache key).
        seen: dict[tuple[str | None, ...], str] = {}
        for plugin in self._plugins:
            first = seen.setdefault((plugin.name, *plugin.scope), plugin.where)
            if first != plugin.where:
                raise ConfigError(f"{plugin.where}: already set for this scope by {first}")

    def _service(self, item: Json, where: str) -> None:
        _known(item, _SERVICE, where)
        if item.get("enabled") is False:
            return
        name = _name(item, where)
        url = urllib.parse.urlsplit(item["url"]) if item.get("url") else None
        protocol = (url.scheme if url else item.get("protocol")) or "http"
        if protocol not in _PORTS:
            raise ConfigError(f"{where}.protocol: the embedded host speaks http and https, not {protocol}")
        port = (url.port if url else item.get("port")) or _PORTS[protocol]
        host = (url.hostname if url else item.get("host")) or ""
        if not host:
            raise ConfigError(f"{where}.host: required field missing")
        path = (url.path if url else item.get("path")) or None
        times = {n: item.get(n, 60000) for n in ("connect_timeout", "read_timeout", "write_timeout")}
        entity = {
            "id": _id("services", item, name),
            "name": name,
            "protocol": protocol,
            "host": host,
            "port": port,
            "path": path,
            "retries": item.get("retries", 5),
            "enabled": True,
            "tags": item.get("tags"),
            "ws_id": str(_WORKSPACE),
            **times,
            **self._dates,
        }
        entity = {k: v for k, v in entity.items() if v is not None}
        service = Service(
            id=entity["id"],
            name=name,
            protocol=protocol,
            host=host,
            port=port,
            path=path,
            entity=entity,
            **times,
        )
        self._keep(self._services, service, name, where)
        for i, route in enumerate(_list(item, "routes", where)):
            self._route(route, f"{where}.routes[{i}]", service)
        for i, plugin in enumerate(_list(item, "plugins", where)):
            self._plugin(plugin, f"{where}.plugins[{i}]", service=service)

    def _route(self, item: Json, where: str, service: Service | None) -> None:
        _known(item, _ROUTE, where)
        name = _name(item, where)
        service = service or self._find(self._services, item.get("service"), where)
        for what, allowed in (("request_buffering", (True, None)), ("path_handling", ("v0", None))):
            if item.get(what) not in allowed:
                raise ConfigError(
                    f"{where}.{what}: the embedded host can't do {item[what]!r}; use a real Kong"
                )
        protocols = item.get("protocols") or ["http", "https"]
        if "http" not in protocols:
            raise ConfigError(f"{where}.protocols: the embedded host listens on http only")
        paths = tuple(_list(item, "paths", where))
        if not (paths or item.get("hosts") or item.get("methods") or item.get("headers")):
            raise ConfigError(f"{where}: needs at least one of paths, hosts, methods, headers")
        headers = {h.lower(): tuple(v) for h, v in (item.get("headers") or {}).items()}
        defaults: Json = {
            "strip_path": True,
            "preserve_host": False,
            "regex_priority": 0,
            "request_buffering": True,
            "response_buffering": True,
            "path_handling": "v0",
            "https_redirect_status_code": 426,
        }
        entity = {
            "id": _id("routes", item, name),
            "name": name,
            "protocols": protocols,
            "service": {"id": service.id},
            "ws_id": str(_WORKSPACE),
            **self._dates,
            **{k: item.get(k, v) for k, v in defaults.items()},
            **{k: item[k] for k in ("paths", "hosts", "methods", "headers", "tags") if item.get(k)},
        }
        route = Route(
            id=entity["id"],
            name=name,
            service=service,
            paths=paths,
            hosts=tuple(item.get("hosts") or ()),
            methods=frozenset(item.get("methods") or ()),
            headers=headers,
            strip_path=entity["strip_path"],
            preserve_host=entity["preserve_host"],
            regex_priority=entity["regex_priority"],
            response_buffering=entity["response_buffering"],
            entity=entity,
            regexes=_regexes(paths, where),
        )
        self._keep(self._routes, route, name, where)
        for i, plugin in enumerate(_list(item, "plugins", where)):
            self._plugin(plugin, f"{where}.plugins[{i}]", route=route)

    def _consumer(self, item: Json, where: str, groups: Mapping[str, set[str]]) -> None:
        _known(item, _CONSUMER, where)
        username, custom_id = item.get("username"), item.get("custom_id")
        if not username and not custom_id:
            raise ConfigError(f"{where}: needs a username or a custom_id")
        entity: Json = {
            "id": _id("consumers", item, str(username or custom_id)),
            "username": username,
            "custom_id": custom_id,
            "tags": item.get("tags"),
            **self._dates,
        }
        own = {a["group"] for a in _list(item, "acls", where)} | groups.get(str(username), set())
        consumer = Consumer(
            id=entity["id"],
            username=username,
            custom_id=custom_id,
            groups=frozenset(own),
            entity={k: v for k, v in entity.items() if v is not None},
        )
        self._keep(self._consumers, consumer, str(username or custom_id), where)
        for i, credential in enumerate(_list(item, "keyauth_credentials", where)):
            self._credential(credential, f"{where}.keyauth_credentials[{i}]", consumer)
        for i, plugin in enumerate(_list(item, "plugins", where)):
            self._plugin(plugin, f"{where}.plugins[{i}]", consumer=consumer)

    def _credential(self, item: Json, where: str, consumer: Consumer) -> None:
        _known(item, {"key", "tags", "id", "ttl", "consumer"}, where)
        key = item.get("key")
        if not isinstance(key, str) or not key:
            raise ConfigError(f"{where}.key: required field missing")
        if item.get("ttl"):
            raise ConfigError(f"{where}.ttl: the embedded host can't expire keys; use a real Kong")
        if "${{" in key or key.startswith("{vault://"):
            raise ConfigError(f"{where}.key: a placeholder; Kong takes the key itself here")
        if key in self._credentials:
            raise ConfigError(f"{where}.key: already in use")
        self._credentials[key] = Credential(
            id=_id("keyauth_credentials", item, where),
            consumer=consumer,
            created_at=self._dates["created_at"],
            key=key,
            tags=tuple(item.get("tags") or ()),
        )

    def _plugin(
        self,
        item: Json,
        where: str,
        *,
        route: Route | None = None,
        service: Service | None = None,
        consumer: Consumer | None = None,
    ) -> None:
        _known(item, _PLUGIN, where)
        name = item.get("name")
        if not isinstance(name, str):
            raise ConfigError(f"{where}.name: required field missing")
        if item.get("enabled") is False:
            return
        where = f"{where} {name}"
        if name in SCHEMAS:
            fields = SCHEMAS[name]
        elif name in self._external:
            fields = kong_schema.config_fields(self._external[name], where)
        else:
            raise ConfigError(f"{where}: the embedded host has no plugin of this name")
        refs: dict[str, str] = {}
        config = kong_schema.apply(
            fields, item.get("config"), f"{where}: config", resolve=self._resolve, refs=refs
        )
        scope = (
            self._scope(route, self._routes, item.get("route"), where),
            self._scope(service, self._services, item.get("service"), where),
            self._scope(consumer, self._consumers, item.get("consumer"), where),
        )
        if refs:
            config["$refs"] = {place.partition("config.")[2]: ref for place, ref in refs.items()}
        plugin = PluginConfig(
            id=_id("plugins", item, ":".join([name, *(s or "" for s in scope)])),
            name=name,
            route_id=scope[0],
            service_id=scope[1],
            consumer_id=scope[2],
            config=config,
            where=where,
        )
        config |= _added(plugin, self._loaded + len(self._plugins) + 1, item.get("instance_name"))
        self._plugins.append(plugin)

    def _scope(self, inside: Any, among: Mapping[str, Any], reference: Any, where: str) -> str | None:
        entity = inside or (self._find(among, reference, where) if reference else None)
        return None if entity is None else str(entity.id)

    def _resolve(self, reference: str, where: str) -> str:
        try:
            return vault.secret(reference, self._environ, self._files)
        except vault.VaultError as error:
            raise ConfigError(f"{where}: {error}") from None

    def _find(self, among: Mapping[str, Any], reference: Any, where: str) -> Any:
        key = str(
            (reference.get("id") or reference.get("name")) if isinstance(reference, dict) else reference
        )
        if key not in among:
            raise ConfigError(f"{where}: refers to {key!r}, which isn't in the file")
        return among[key]

    @staticmethod
    def _keep(among: dict[str, Any], entity: Any, name: str, where: str) -> None:
        if name in among:
            raise ConfigError(f"{where}: the name {name} is taken")
        among[name] = among[entity.id] = entity


_WORKSPACE: Final = uuid.uuid5(_NAMESPACE, "workspaces:default")


def _added(plugin: PluginConfig, seq: int, instance_name: str | None) -> Json:
    # kong/runloop/plugins_iterator.lua, get_plugin_config.
    scope = [plugin.route_id or "", plugin.service_id or "", plugin.consumer_id or ""]
    added: Json = {
        "route_id": plugin.route_id,
        "service_id": plugin.service_id,
        "consumer_id": plugin.consumer_id,
        "plugin_instance_name": instance_name,
        "__plugin_id": plugin.id,
        "__ws_id": str(_WORKSPACE),
        "__key__": ":".join(["plugins", plugin.name, *scope, "", str(_WORKSPACE)]),
        "__seq__": seq,
    }
    return {k: v for k, v in added.items() if v is not None}


def _id(kind: str, item: Json, name: str) -> str:
    return str(item.get("id") or uuid.uuid5(uuid.uuid5(_NAMESPACE, kind), name))


def _unique(among: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple({e.id: e for e in among.values()}.values())


def _groups(tree: Json) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for item in _list(tree, "acls"):
        groups.setdefault(str(item.get("consumer")), set()).add(item["group"])
    return groups


def _list(item: Json, key: str, where: str = "") -> list[Any]:
    value = item.get(key) or []
    if not isinstance(value, list):
        raise ConfigError(f"{where}.{key}: must be a list" if where else f"{key}: must be a list")
    return value


def _known(item: Any, known: Iterable[str], where: str) -> None:
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: must be a mapping")
    for name in item:
        if name not in known:
            raise ConfigError(f"{where}.{name}: the embedded host doesn't know this field")


def _name(item: Json, where: str) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}.name: required, so that messages can name it")
    return name


def _regexes(paths: Iterable[str], where: str) -> dict[str, re.Pattern[str]]:
    made = {}
    for path in paths:
        if not isinstance(path, str) or not path.startswith(("/", "~")):
            raise ConfigError(f"{where}.paths: {path!r} must start with / or ~")
        if path.startswith("~"):
            try:
                made[path] = re.compile(_NAMED.sub("(?P<", path[1:]))
            except re.error as error:
                raise ConfigError(f"{where}.paths: {path!r} is no regular expression") from error
    return made
