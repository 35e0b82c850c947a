"""Redis URLs, as `--redis` takes them."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tenantgate.errors import ConfigError
from tenantgate.store.config import PORT, ClusterNode, RedisConfig

__all__ = ["redis_config"]


_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster")


def _address(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host = None
    if not host:
        raise ConfigError("Redis URL: the host or the port can't be read")
    return host, port


def redis_config(url: str) -> RedisConfig:
    """The settings in ``redis://[user:password@]host[:port][/database]``, or ``rediss://`` for TLS.

    ``redis+cluster://`` and ``rediss+cluster://`` are a Redis Cluster's, with one host or several, commas between.

    Raises:
        ConfigError: says what is wrong, and never quotes the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("Redis URL: the host or the port can't be read") from None
    scheme, _, cluster = parts.scheme.partition("+")
    _, _, hosts = parts.netloc.rpartition("@")
    if parts.scheme not in _SCHEMES or not hosts:
        raise ConfigError(
            "Redis URL: must be redis://host[:port][/database], rediss://… or redis+cluster://…"
        )
    if "," in hosts and not cluster:
        raise ConfigError("Redis URL: several hosts are a cluster's: redis+cluster://host:port,host:port")
    database = parts.path.strip("/") or "0"
    if not database.isdecimal() or parts.query or parts.fragment:
        raise ConfigError("Redis URL: after the host only /database, a number, is understood")
    addresses = [_address(host) for host in hosts.split(",")]
    where: dict[str, Any] = {"host": addresses[0][0], "port": addresses[0][1]}
    if cluster:
        where = {"cluster_nodes": tuple(ClusterNode(ip=ip, port=port) for ip, port in addresses)}
    made = RedisConfig(
        **where,
        database=int(database),
        ssl=scheme == "rediss",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
    for field, problem in made.problems():
        raise ConfigError(f"Redis URL: {field}: {problem}")
    return made
