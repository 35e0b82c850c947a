"""What lists of remote servers showed, known to processes that share a Redis."""

from __future__ import annotations

import redis

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.mcp.seen_tools import SeenTools
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def test_a_process_goes_by_what_another_saw_last(redis_server: RedisServer, store: redis.Redis) -> None:
    def process() -> SeenTools:
        return SeenTools(connect(RedisConfig(port=redis_server.port)))

    one, other = process(), process()
    assert other.last(ACME, "far", "echo") is None
    one.note(ACME, "far", {"echo": "a", "more": "b"})
    assert (other.last(ACME, "far", "echo"), other.last(ACME, "far", "more")) == ("a", "b")
    other.note(ACME, "far", {"echo": "changed"})
    assert one.last(ACME, "far", "echo") == "changed"
    assert process().last(ACME, "far", "more") == "b"
    assert one.last(GLOBEX, "far", "echo") is None
    assert one.last(ACME, "near", "echo") is None
    assert all(store.ttl(key) > 0 for key in store.keys("tg:mcp:*"))


def test_without_a_redis_each_process_goes_by_what_it_saw() -> None:
    one = SeenTools(connect(RedisConfig(port=1)))
    one.note(ACME, "far", {"echo": "a"})
    assert one.last(ACME, "far", "echo") == "a"
    assert one.last(ACME, "far", "other") is None
