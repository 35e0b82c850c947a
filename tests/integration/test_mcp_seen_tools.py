"""What lists of remote servers showed, known to processes that share a Redis."""

from __future__ import annotations

import redis

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.mcp.seen_tools import SeenTools
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


KEY = "k" * 32


def test_a_process_goes_by_what_another_saw_last(redis_server: RedisServer, store: redis.Redis) -> None:
    def process() -> SeenTools:
        return SeenTools(connect(RedisConfig(port=redis_server.port)), encryption_key=KEY)

    one, other = process(), process()
    assert other.last(ACME, "far", "echo") is None
    one.note(ACME, "far", {"echo": "a", "more": "b"})
    assert (other.last(ACME, "far", "echo"), other.last(ACME, "far", "more")) == ("a", "b")
    other.note(ACME, "far", {"echo": "changed"})
    assert one.last(ACME, "far", "echo") == "changed"
    # The server changes its tool back and forth: what counts is the last list, whoever saw it.
    one.note(ACME, "far", {"echo": "a"})
    other.note(ACME, "far", {"echo": "changed"})
    assert one.last(ACME, "far", "echo") == "changed"
    assert process().last(ACME, "far", "more") == "b"
    assert one.last(GLOBEX, "far", "echo") is None
    assert one.last(ACME, "near", "echo") is None
    assert all(store.ttl(key) > 0 for key in store.keys("tg:mcp:*"))


def test_without_a_redis_each_process_goes_by_what_it_saw() -> None:
    one = SeenTools(connect(RedisConfig(port=1)), encryption_key=KEY)
    one.note(ACME, "far", {"echo": "a"})
    assert one.last(ACME, "far", "echo") == "a"
    assert one.last(ACME, "far", "other") is None


def test_what_was_not_written_with_the_tenants_key_is_not_known(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    def seen(key: str = KEY) -> SeenTools:
        return SeenTools(connect(RedisConfig(port=redis_server.port)), encryption_key=key)

    store.flushall()
    one = seen()
    one.note(ACME, "far", {"echo": "a", "more": "b"})
    seen("another key " * 3).note(GLOBEX, "far", {"echo": "a"})
    one.note(GLOBEX, "near", {"echo": "a"})
    mine, theirs = "tg:mcp:1:{acme}:far", "tg:mcp:1:{globex}:near"
    forged = [b"a", b"", b"\x01" + b"a" * 40, store.hget(mine, "more"), store.hget(theirs, "echo")]
    for value in forged:
        store.hset(mine, "echo", value)
        assert one.last(ACME, "far", "echo") is None
    assert one.last(GLOBEX, "far", "echo") is None
