"""Replies of tools in a real Redis: whose they are, what tells them apart, and what a failure costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.mcp.cache import ReplyCache, StoredReply
from tenantgate.mcp.core.tool import Annotations, Credential, Operation, Server, Tool
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
TOOL = Tool(
    name="get",
    title="",
    description="",
    input_schema={"type": "object"},
    output_schema=None,
    annotations=Annotations(read_only=True),
    operation=Operation(method="GET", path="/"),
    fingerprint="sha256:1",
    cache_s=60,
)
SERVER = Server(name="api", upstream="https://api.example")
REPLY = StoredReply("application/json", b'{"secret-word": 1}\n')


@pytest.fixture
def cache(redis_server: RedisServer, store: redis.Redis) -> ReplyCache:
    store.flushall()
    nodes = connect(RedisConfig(port=redis_server.port), timeout_ms=2000)
    return ReplyCache(nodes, encryption_key="k" * 32)


def test_the_same_call_of_the_same_tenant_finds_it(cache: ReplyCache, store: redis.Redis) -> None:
    key = cache.key(ACME, SERVER, TOOL, {"a": 1, "b": [1, "2"]})
    assert cache.find(ACME, key) is None
    cache.keep(ACME, key, REPLY, 60)
    assert cache.find(ACME, cache.key(ACME, SERVER, TOOL, {"b": [1, "2"], "a": 1})) == REPLY
    (name,) = store.keys("*")
    assert 0 < store.ttl(name) <= 60
    assert b"secret-word" not in store.get(name)
    # Under another tenant's name, or opened with another's key, it is nothing.
    other = cache.key(GLOBEX, SERVER, TOOL, {"a": 1, "b": [1, "2"]})
    assert cache.find(GLOBEX, other) is None
    store.set(other, store.get(name))
    assert cache.find(GLOBEX, other) is None
    assert cache.find(GLOBEX, key) is None


@pytest.mark.parametrize(
    ("server", "tool", "arguments"),
    [
        (SERVER, TOOL, {"a": 2}),
        (SERVER, TOOL, {"a": "1"}),
        (SERVER, TOOL, {"a": 1, "b": None}),
        (SERVER, replace(TOOL, fingerprint="sha256:2"), {"a": 1}),
        (SERVER, replace(TOOL, name="other"), {"a": 1}),
        (SERVER, replace(TOOL, operation=Operation(method="GET", path="/", accept="text/csv")), {"a": 1}),
        (replace(SERVER, upstream="https://other.example"), TOOL, {"a": 1}),
        (replace(SERVER, name="other"), TOOL, {"a": 1}),
        (replace(SERVER, credential=Credential(reference="{vault://env/A}")), TOOL, {"a": 1}),
        (replace(SERVER, headers={"X-Version": "2"}), TOOL, {"a": 1}),
    ],
)
def test_what_may_change_the_answer_is_part_of_the_key(
    cache: ReplyCache, server: Server, tool: Tool, arguments: dict[str, object]
) -> None:
    assert cache.key(ACME, server, tool, arguments) != cache.key(ACME, SERVER, TOOL, {"a": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=3), st.dictionaries(st.text(max_size=6), JSON))
def test_one_key_is_one_call(cache: ReplyCache, one: dict[str, object], other: dict[str, object]) -> None:
    same = repr(_exact(one)) == repr(_exact(other))
    assert (cache.key(ACME, SERVER, TOOL, one) == cache.key(ACME, SERVER, TOOL, other)) is same


def _exact(value: object) -> object:
    """A value in which members' order says nothing, and 1, 1.0 and true are three."""
    if isinstance(value, dict):
        return [(name, _exact(value[name])) for name in sorted(value)]
    if isinstance(value, list):
        return ("list", [_exact(inner) for inner in value])
    return (type(value).__name__, value)


def test_a_large_reply_is_not_kept_and_a_broken_one_is_a_miss(cache: ReplyCache, store: redis.Redis) -> None:
    key = cache.key(ACME, SERVER, TOOL, {})
    cache.keep(ACME, key, StoredReply("text/plain", b"x" * (600 << 10)), 60)
    assert store.keys("*") == []
    cache.keep(ACME, key, REPLY, 60)
    sealed = store.get(key)
    for broken in (b"", b"\x01", sealed[:-1], sealed + b"x", b"x" + sealed[1:]):
        store.set(key, broken)
        assert cache.find(ACME, key) is None
    store.delete(key)
    store.lpush(key, "a list")
    assert cache.find(ACME, key) is None


def test_redis_gone_is_a_miss(cache: ReplyCache, redis_server: RedisServer) -> None:
    key = cache.key(ACME, SERVER, TOOL, {})
    redis_server.stop()
    try:
        for _ in range(5):
            assert cache.find(ACME, key) is None
            cache.keep(ACME, key, REPLY, 60)
    finally:
        redis_server.start()
