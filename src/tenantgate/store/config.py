"""Redis connection settings, shared by all features that keep data there; names as in Kong's plugins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tenantgate.fields import config_class, field

__all__ = ["LOCALHOST", "PORT", "ClusterNode", "RedisConfig", "cluster_problems"]

LOCALHOST: Final = "127.0.0.1"
PORT: Final = 6379


@config_class
class ClusterNode:
    """One node of a Redis Cluster."""

    ip: str = field("Host name or address of the node.", default=LOCALHOST, len_min=1)
    port: int = field("Port of the node.", default=PORT, between=(1, 65535))


def cluster_problems(
    nodes: Sequence[object], host: str, port: int, database: int
) -> Iterator[tuple[str, str]]:
    """Problems where `nodes` of a cluster are given beside a `host`: the field, and the problem."""
    if nodes and (host != LOCALHOST or port != PORT):
        yield ("host" if host != LOCALHOST else "port"), "cluster_nodes is given, too; give one of the two"
    elif nodes and database:
        yield "database", "a cluster has no other than 0"


@config_class
class RedisConfig:
    """Where the data lies: Redis 7 or later, or a cluster of these."""

    host: str = field("Host name or address of the Redis server.", default=LOCALHOST, len_min=1)
    port: int = field("Port of the Redis server.", default=PORT, between=(1, 65535))
    cluster_nodes: tuple[ClusterNode, ...] = field(
        "Some nodes of a Redis Cluster, each with ip and port, in place of host and port. The other nodes are "
        "found through these.",
        default=(),
        len_max=100,
    )
    database: int = field("Number of the Redis database.", default=0, between=(0, 1023))
    username: str | None = field("Redis user, where access control lists are in use.", default=None)
    password: str | None = field("Redis password.", default=None, referenceable=True)
    ssl: bool = field("Use TLS for the connection to Redis.", default=False)
    ssl_verify: bool = field("Verify the certificate of Redis.", default=True)
    timeout_ms: int = field(
        "Longest wait for Redis at each round trip, connection included. After this the plugin continues without "
        "Redis.",
        default=15,
        between=(1, 1000),
        unit="ms",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """One Redis or a cluster, not both."""
        return cluster_problems(self.cluster_nodes, self.host, self.port, self.database)
