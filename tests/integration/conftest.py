"""A real Redis for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tenantgate.devhost.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the Redis, empty at the start."""
    client = redis.Redis(port=redis_server.port)
    client.flushall()
    client.config_set("maxmemory", "256mb")
    yield client
    client.close()
