"""A real Redis, the audit worker on a journal, and time for the plugins that run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis

from audit_rig import Rig
from policy_rig import Postgres
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.kong.host import Host


@pytest.fixture(autouse=True)
def _time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times the time for each phase: other work on the machine must not look like a slow plugin."""

    def patient(kong: Any, name: str, *, deadline_ms: float, **more: Any) -> Host:
        return Host(kong, name, deadline_ms=20 * deadline_ms, **more)

    monkeypatch.setattr(import_module("tenantgate.kong.phase"), "Host", patient)


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


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if find_spec("psycopg") is None:
        pytest.skip("psycopg isn't installed")
    made = Postgres()
    try:
        made.start()
        yield made
    finally:
        made.remove()
