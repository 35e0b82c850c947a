"""What tenants.yaml may say of Redis: that of the plugins, and that of the rate limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantgate.fields import config_class, field
from tenantgate.store.config import LOCALHOST, PORT, cluster_problems

__all__ = ["ClusterNode", "RateLimitRedis", "RateLimiting", "Redis"]

_HOST: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$|^\[?[0-9A-Fa-f:.]+\]?$"


@config_class
class RateLimitRedis:
    """A Redis server of the rate limits."""

    host: str = field("Host name or address of the Redis server.", default=LOCALHOST, match=_HOST)
    port: int = field("Port of the Redis server.", default=PORT, between=(1, 65535))
    username: str | None = field(
        "Redis user, where access control lists are in use.", default=None, len_min=1
    )
    password: str | None = field("Redis password.", default=None, referenceable=True)
    database: int = field("Number of the Redis database.", default=0, between=(0, 1023))
    ssl: bool = field("Use TLS for the connection to Redis.", default=False)
    ssl_verify: bool = field("Verify the certificate of Redis.", default=True)
    timeout_ms: int = field(
        "Longest wait of a rate limit for Redis. After this `gateway.rate_limiting.on_error` applies.",
        default=100,
        between=(1, 10_000),
        unit="ms",
    )


@config_class
class ClusterNode:
    """One node of a Redis Cluster."""

    ip: str = field("Host name or address of the node.", default=LOCALHOST, match=_HOST)
    port: int = field("Port of the node.", default=PORT, between=(1, 65535))


@config_class
class Redis(RateLimitRedis):
    """The Redis of the plugins, and of the rate limits unless those have their own."""

    cluster_nodes: tuple[ClusterNode, ...] = field(
        "Some nodes of a Redis Cluster, in place of host and port. The other nodes are found through these.",
        default=(),
        len_max=100,
    )
    plugin_timeout_ms: int = field(
        "Longest wait of Tenantgate's plugins for Redis at each round trip. After this they continue without "
        "Redis.",
        default=20,
        between=(1, 1000),
        unit="ms",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """One Redis or a cluster, not both."""
        return cluster_problems(self.cluster_nodes, self.host, self.port, self.database)


@config_class
class RateLimiting:
    """Where the rate limits count."""

    policy: str = field(
        "Place of the counters: redis, shared by all Kong nodes; or local, in each process of the engine, so that "
        "with n processes a tenant may send up to n times its limit.",
        default="redis",
        one_of=("redis", "local"),
    )
    on_error: str = field(
        "What happens to a request that can't be counted, as when Redis is gone: pass, uncounted; or reject, with "
        "status 503.",
        default="pass",
        one_of=("pass", "reject"),
    )
    redis: RateLimitRedis | None = field(
        "A Redis server of the rate limits' own. Default: `gateway.redis`, which may be a cluster.",
        default=None,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """No Redis for counters that don't lie in one."""
        if self.policy == "local" and self.redis is not None:
            yield "redis", "isn't used with policy local; give one of the two"
