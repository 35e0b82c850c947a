"""kong.conf: the settings that the embedded host honours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["KongConf", "PluginServer", "load", "parse"]

_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_LUA_PATH: Final = "./?.lua;./?/init.lua;"  # kong/templates/kong_defaults.lua
_CONDITIONS: Final = frozenset({"error", "timeout", "non_idempotent", "off"})
_TIMES: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginServer:
    """One entry of ``pluginserver_names``."""

    name: str
    socket: str
    start_cmd: str | None
    query_cmd: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KongConf:
    """Sizes in bytes, times in seconds; every other setting is kept in `settings`, unread."""

    prefix: Path
    plugins: tuple[str, ...]
    plugin_servers: tuple[PluginServer, ...]
    body_buffer_size: int
    """``nginx_http_client_body_buffer_size``: a larger body counts as lying on disk."""
    max_body_size: int
    """``nginx_http_client_max_body_size``: a larger body gets 413; 0 takes any."""
    socket_timeout_s: float
    """``nginx_http_lua_socket_read_timeout``: how long a plugin server may be silent."""
    upstream_keepalive: bool
    """Whether ``upstream_keepalive_pool_size`` is above 0."""
    next_upstream: frozenset[str]
    """``nginx_proxy_proxy_next_upstream``: after which failures another try is made."""
    shared_dicts: tuple[str, ...]
    """Names of ``nginx_http_lua_shared_dict``, which stands once."""
    lua_package_path: str
    """Where the files of Lua plugins are, as Lua's ``package.path`` says it."""
    settings: Mapping[str, str]


def load(path: Path, environ: Mapping[str, str] | None = None) -> KongConf:
    """Read a kong.conf; ``KONG_X`` in the environment comes before ``x`` in the file, as Kong has it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return parse(text, environ or {}, where=str(path))


def parse(text: str, environ: Mapping[str, str] | None = None, *, where: str = "kong.conf") -> KongConf:
    """The settings of a kong.conf's text."""
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip()
        if not plain or plain.startswith("#"):
            continue
        name, equals, value = plain.partition("=")
        if not equals:
            raise ConfigError(f"{where}:{number}: not a line of the form `name = value`")
        settings[name.strip()] = re.sub(r"\s+#.*$", "", value).strip()
    for name, value in (environ or {}).items():
        if name.startswith("KONG_"):
            settings[name[5:].lower()] = value
    return _settings(settings, where)


def _settings(settings: dict[str, str], where: str) -> KongConf:
    prefix = Path(settings.get("prefix", "/usr/local/kong"))
    servers = []
    for name in _names(settings.get("pluginserver_names", "")):
        key = f"pluginserver_{name.lower().replace('-', '_')}_"
        servers.append(
            PluginServer(
                name=name,
                socket=settings.get(key + "socket", str(prefix / f"{name}.socket")),
                start_cmd=settings.get(key + "start_cmd"),
                query_cmd=settings.get(key + "query_cmd"),
            )
        )
    return KongConf(
        prefix=prefix,
        plugins=_names(settings.get("plugins", "bundled")),
        plugin_servers=tuple(servers),
        body_buffer_size=_size(settings, "nginx_http_client_body_buffer_size", "8k", where),
        max_body_size=_size(settings, "nginx_http_client_max_body_size", "0", where),
        socket_timeout_s=_time(settings, "nginx_http_lua_socket_read_timeout", "60s", where),
        upstream_keepalive=settings.get("upstream_keepalive_pool_size") != "0",
        next_upstream=_next_upstream(settings, where),
        shared_dicts=tuple(settings.get("nginx_http_lua_shared_dict", "").split()[:1]),
        lua_package_path=settings.get("lua_package_path", _LUA_PATH).replace(";;", ";"),
        settings=settings,
    )


def _names(value: str) -> tuple[str, ...]:
    return tuple(n.strip() for n in value.split(",") if n.strip() and n.strip() != "off")


def _next_upstream(settings: Mapping[str, str], where: str) -> frozenset[str]:
    words = frozenset(settings.get("nginx_proxy_proxy_next_upstream", "error timeout").split())
    if unknown := sorted(w for w in words if w not in _CONDITIONS and not re.fullmatch(r"http_\d{3}", w)):
        raise ConfigError(
            f"{where}: nginx_proxy_proxy_next_upstream: {unknown[0]}: the embedded host can't do this"
        )
    return words


def _size(settings: Mapping[str, str], name: str, default: str, where: str) -> int:
    found = re.fullmatch(r"(\d+)([kmg]?)", settings.get(name, default).lower())
    if not found:
        raise ConfigError(f"{where}: {name}: must be a size such as 8k or 1m")
    return int(found[1]) * _UNITS[found[2]]


def _time(settings: Mapping[str, str], name: str, default: str, where: str) -> float:
    found = re.fullmatch(r"(\d+)(ms|s|m|h|)", settings.get(name, default).lower())
    if not found:
        raise ConfigError(f"{where}: {name}: must be a time such as 2s or 500ms")
    return int(found[1]) * _TIMES[found[2]]
